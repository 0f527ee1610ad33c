#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Federated learning in the NVIDIA FLARE simulator: several sites train one network and share weights, not images.

    pip install -e ".[federated]"
    python scripts/federated.py --dataset_dir DIR --test_dir TEST_DIR --sites 2 --rounds 10

splits the training pairs of DIR among the sites, trains by federated averaging with the bundle as it is, then trains
every site alone for as many epochs, and scores them all on TEST_DIR. Weights are those of the last round and of the
last epoch, so the test images choose nothing. At a real site, NVIDIA FLARE runs scripts/federated_client.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import partition_dataset

from unetv2_monai import InputError, load_datalist

ROOT = Path(__file__).resolve().parents[1]
TRAIN, EVALUATE = (str(ROOT / "bundle" / "configs" / f"{name}.json") for name in ("train", "evaluate"))
# two processes on one machine would fight for its cores
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def split(arguments: argparse.Namespace, options: dict) -> list[Path]:
    """A folder for every site, with a datalist.json of its share of the training pairs."""
    classes = options.get("out_channels", 1)
    pairs = load_datalist(str(arguments.dataset_dir), ["training"], out_channels=classes)["training"]
    wanted = arguments.sites * (arguments.images_per_site or len(pairs) // arguments.sites)
    if not 2 * arguments.sites <= wanted <= len(pairs):
        raise InputError(f"{arguments.dataset_dir} has {len(pairs)} training pairs, too few for --images_per_site.")
    rest = [len(pairs) - wanted] if wanted < len(pairs) else []
    used = partition_dataset(pairs, ratios=[wanted, *rest], shuffle=True, seed=0)[0]
    if arguments.in_order:
        used.sort(key=lambda item: item["image"])
    folders = []
    for index, share in enumerate(partition_dataset(used, num_partitions=arguments.sites)):
        folder = arguments.output_dir / f"site-{index + 1}"
        folder.mkdir(parents=True)
        paths = ("image", "label")
        share = [{key: str(Path(v).resolve()) if key in paths else v for key, v in item.items()} for item in share]
        (folder / "datalist.json").write_text(json.dumps({"training": share}, indent=1))
        folders.append(folder)
    return folders


def federate(arguments: argparse.Namespace, options: dict) -> Path:
    """Run server and sites here; returns the file of the averaged weights."""
    try:
        from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
        from nvflare.recipe.sim_env import SimEnv
    except ImportError:
        raise InputError('nvflare is missing: pip install "unetv2-monai[federated]"') from None
    parser = ConfigParser()
    parser.read_config(TRAIN)
    parser.update(options)
    torch.manual_seed(parser["seed"])
    first = arguments.output_dir / "first.pt"
    torch.save(parser.get_parsed_content("network_def").state_dict(), first)
    keys = [key for key in parser["network_def"] if not key.startswith("_")]
    network = {key: parser.get_parsed_content(f"network_def#{key}") for key in keys}
    site = str(arguments.output_dir / "{site}")
    client = ["--bundle", str(ROOT / "bundle"), "--dataset_dir", site, "--output_dir", site]
    client += ["--local_epochs", str(arguments.local_epochs), "--set", *arguments.set]
    if any(" " in part for part in client):  # NVIDIA FLARE cuts the line there, quoted or not
        raise InputError("NVIDIA FLARE takes no spaces in paths or options: name another --output_dir or --set.")
    recipe = FedAvgRecipe(
        name="unetv2",
        model={"class_path": "unetv2_monai.UNetV2", "args": network},
        initial_ckpt=str(first),
        min_clients=arguments.sites,
        num_rounds=arguments.rounds,
        train_script=str(ROOT / "scripts" / "federated_client.py"),
        train_args=" ".join(client),
        key_metric="val_mean_dice",
    )
    simulator = arguments.output_dir / "simulator"
    run = recipe.execute(SimEnv(num_clients=arguments.sites, workspace_root=str(simulator)))
    (saved,) = Path(run.get_result(clean_up=False)).rglob("FL_global_model.pt")
    content = torch.load(saved, map_location="cpu", weights_only=True)
    target = arguments.output_dir / "federated.pt"
    torch.save(content.get("model", content), target)
    return target


def bundle(run_id: str, files: list[str], **options: object) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    subprocess.run(command, check=True, env={**os.environ, **ENVIRONMENT})


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="images and masks to split among the sites")
    parser.add_argument("--test_dir", type=Path, required=True, help="held-out images and masks")
    parser.add_argument("--output_dir", type=Path, default=Path("output/federated"), help="default: output/federated")
    parser.add_argument("--sites", type=int, default=2, help="default: 2")
    parser.add_argument("--rounds", type=int, default=10, help="default: 10")
    parser.add_argument("--local_epochs", type=int, default=1, help="epochs a round (default: 1)")
    parser.add_argument("--images_per_site", type=int, help="default: all, in equal shares")
    parser.add_argument("--in_order", action="store_true", help="shares by file name, so that sites differ")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the bundle")
    arguments = parser.parse_args(argv)
    arguments.output_dir = arguments.output_dir.resolve()
    if arguments.output_dir.exists():
        raise InputError(f"{arguments.output_dir} exists. Name another --output_dir, or remove it.")
    os.environ.update(ENVIRONMENT)

    epochs = arguments.rounds * arguments.local_epochs
    arguments.set += [f"lr_scheduler#total_iters={epochs}"]  # the learning rate falls over all rounds
    options = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    try:
        sites = split(arguments, options)
    except BaseException:
        shutil.rmtree(arguments.output_dir, ignore_errors=True)
        raise
    weights = {"federated": federate(arguments, options)}
    for site in sites:
        alone = {**options, "dataset_dir": site, "output_dir": site / "alone", "max_epochs": epochs}
        alone["val_interval"] = epochs  # nothing is chosen by it
        bundle("training", [TRAIN], **alone)
        weights[f"{site.name} alone"] = site / "alone" / "models" / "last.pt"

    rows = []
    for name, path in weights.items():
        folder = arguments.output_dir / "scores" / name.replace(" ", "_")
        bundle(
            "evaluating", [TRAIN, EVALUATE], **options, dataset_dir=arguments.test_dir, output_dir=folder,
            eval_dir=folder, checkpoint=path,
        )  # fmt: skip
        with (folder / "scores.csv").open(newline="") as opened:
            scores = list(csv.DictReader(opened))
        rows.append([name, *(fmean(float(row[metric]) for row in scores) for metric in ("dice", "iou"))])
    with (arguments.output_dir / "scores.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([["weights", "dice", "iou"], *rows])
    print("\n| weights | test Dice | test IoU |\n|---|---|---|")
    for name, dice, iou in rows:
        print(f"| {name} | {dice:.4f} | {iou:.4f} |")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
