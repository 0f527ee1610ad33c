#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Simulate federated learning with NVIDIA FLARE: several sites train one network and share weights, not images.

    pip install -e ".[federated]"
    python scripts/federated.py --dataset_dir DIR --test_dir TEST_DIR --sites 2 --rounds 10

splits the training pairs of DIR among the sites and trains by federated averaging with the unchanged bundle. Then it
trains every site alone for as many epochs, and scores all networks on TEST_DIR. The scored weights are those of the
last round and of the last epoch, so no weights are chosen by the test images. At a real site, NVIDIA FLARE runs
scripts/federated_client.py.
"""

import argparse
import importlib.util
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from common.bundle import BUNDLE, ROOT, read_config, run_bundle
from common.command import new_parser, run
from common.options import add_set, values_of
from common.pages import markdown
from monai.data import partition_dataset

from unetv2_monai import InputError, load_datalist, load_weights
from unetv2_monai.core.files import read_csv, write_csv

# for all processes, since the sites share the cores of one machine
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def above_zero(text: str) -> int:
    """Read a whole number above 0 from the command line."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def split(arguments: argparse.Namespace, options: Mapping[str, Any]) -> list[Path]:
    """Make a folder for every site, with a datalist.json of its share of the training pairs."""
    classes = options.get("out_channels", 1)
    pairs = load_datalist(str(arguments.dataset_dir), ["training"], out_channels=classes)["training"]
    each = arguments.images_per_site or len(pairs) // arguments.sites
    wanted = arguments.sites * each
    if not 2 * arguments.sites <= wanted <= len(pairs):
        raise InputError(
            f"{arguments.dataset_dir} has {len(pairs)} training pairs, too few for {arguments.sites} sites of "
            f"{max(each, 2)}: name fewer --sites{' or --images_per_site' if arguments.images_per_site else ''}."
        )
    rest = [len(pairs) - wanted] if wanted < len(pairs) else []
    used = partition_dataset(pairs, ratios=[wanted, *rest], shuffle=True, seed=0)[0]
    if arguments.in_order:
        used.sort(key=lambda item: item["image"])
    folders = []
    for index, share in enumerate(partition_dataset(used, num_partitions=arguments.sites)):
        folder = arguments.output_dir / f"site-{index + 1}"
        folder.mkdir(parents=True)
        share = [{**item, **{key: str(Path(item[key]).resolve()) for key in ("image", "label")}} for item in share]
        (folder / "datalist.json").write_text(json.dumps({"training": share}, indent=1))
        folders.append(folder)
    return folders


def client_arguments(arguments: argparse.Namespace) -> str:
    """Return the arguments of federated_client.py, which are the same at every site."""
    if importlib.util.find_spec("nvflare") is None:
        raise InputError('nvflare is missing: pip install "unetv2-monai[federated]"')
    site = str(arguments.output_dir / "{site}")
    client = ["--bundle", str(BUNDLE), "--dataset_dir", site, "--output_dir", site]
    client += ["--local_epochs", str(arguments.local_epochs), "--set"]
    client += [f"{key}={text}" for key, text in arguments.set.items()]
    if any(" " in part for part in client):  # NVIDIA FLARE splits the line at spaces, quoted or not
        raise InputError("NVIDIA FLARE takes no spaces in paths or options: name another --output_dir or --set.")
    return " ".join(client)


def federate(arguments: argparse.Namespace, options: Mapping[str, Any], client: str) -> Path:
    """Run the server and the sites on this machine, and return the path of the averaged weights."""
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe.sim_env import SimEnv

    parser = read_config(["train.json"], options)
    torch.manual_seed(parser["seed"])
    network = parser.get_parsed_content("network_def")
    first, target = (arguments.output_dir / name for name in ("first.pt", "federated.pt"))
    torch.save(network.state_dict(), first)
    keys = [key for key in parser["network_def"] if not key.startswith("_")]
    values = {key: parser.get_parsed_content(f"network_def#{key}") for key in keys} | {"pretrained": False}
    recipe = FedAvgRecipe(
        name="unetv2",
        model={"class_path": "unetv2_monai.UNetV2", "args": values},
        initial_ckpt=str(first),
        min_clients=arguments.sites,
        num_rounds=arguments.rounds,
        train_script=str(ROOT / "scripts" / "federated_client.py"),
        train_args=client,
        key_metric="val_mean_dice",
    )
    simulator = SimEnv(num_clients=arguments.sites, workspace_root=str(arguments.output_dir / "simulator"))
    (saved,) = Path(recipe.execute(simulator).get_result(clean_up=False)).rglob("FL_global_model.pt")
    load_weights(network, saved)
    torch.save(network.state_dict(), target)
    return target


def score(weights: Path, folder: Path, test_dir: Path, options: Mapping[str, Any]) -> dict[str, float]:
    """Score one network, and return its mean Dice and IoU over the test images."""
    own = {**options, "dataset_dir": test_dir, "output_dir": folder, "eval_dir": folder, "checkpoint": weights}
    run_bundle("evaluating", ["train.json", "evaluate.json"], own)
    rows = read_csv(folder / "scores.csv")
    return {name: fmean(float(row[name]) for row in rows) for name in ("dice", "iou")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="images and masks to split among the sites")
    parser.add_argument("--test_dir", type=Path, required=True, help="held-out images and masks")
    parser.add_argument("--output_dir", type=Path, default=Path("output/federated"), help="default: output/federated")
    parser.add_argument("--sites", type=above_zero, default=2, help="default: 2")
    parser.add_argument("--rounds", type=above_zero, default=10, help="default: 10")
    parser.add_argument("--local_epochs", type=above_zero, default=1, help="epochs per round (default: 1)")
    parser.add_argument("--images_per_site", type=above_zero, help="default: all, in equal shares")
    parser.add_argument("--in_order", action="store_true", help="split by file name, so that the sites differ")
    add_set(parser, "options of the bundle")
    arguments = parser.parse_args(argv)
    arguments.output_dir = arguments.output_dir.resolve()
    if arguments.output_dir.exists():
        raise InputError(f"{arguments.output_dir} exists. Name another --output_dir, or remove it.")
    os.environ.update(ENVIRONMENT)

    epochs = arguments.rounds * arguments.local_epochs
    arguments.set["lr_scheduler#total_iters"] = str(epochs)  # the learning rate falls over all rounds
    options = values_of(arguments.set)
    client = client_arguments(arguments)  # before the output folder exists, which the next call would refuse
    try:
        sites = split(arguments, options)
    except BaseException:
        shutil.rmtree(arguments.output_dir, ignore_errors=True)
        raise
    weights = {"federated": federate(arguments, options, client)}
    for site in sites:
        alone = {**options, "dataset_dir": site, "output_dir": site / "alone", "max_epochs": epochs}
        alone["val_interval"] = epochs  # validation chooses nothing here
        run_bundle("training", ["train.json"], alone)
        weights[f"{site.name} alone"] = site / "alone" / "models" / "last.pt"

    rows: list[dict[str, Any]] = []
    for name, path in weights.items():
        folder = arguments.output_dir / "scores" / name.replace(" ", "_")
        rows.append({"weights": name, **score(path, folder, arguments.test_dir, options)})
    write_csv(arguments.output_dir / "scores.csv", rows, list(rows[0]))
    titles = {"dice": "test Dice", "iou": "test IoU"}
    shown = [{"weights": row["weights"], **{titles[key]: f"{row[key]:.4f}" for key in titles}} for row in rows]
    print(f"\n{markdown(shown)}")


if __name__ == "__main__":
    run(main)
