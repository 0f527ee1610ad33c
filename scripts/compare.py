#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train networks under equal terms and tabulate them: same data, augmentation, optimiser, epochs and seeds, weights chosen
on validation images, scores on test images, mean and standard deviation over the seeds, training time of the CPU.

A row is the name of a recipe (unetv2 is train.json alone), then options of its own if it has some. Runs that are
finished are not run again; one that was stopped starts anew, so that its time counts whole.

    python scripts/compare.py --dataset_dir data/polyp --output_dir output/compare --rows unetv2 \\
        "unetv2:network_def#sdi=false" unet unetplusplus flexibleunet segresnet --seeds 0 1 2 \\
        --overlays recipes/recommended recipes/small options/ema --set image_size=96 max_epochs=12 val_interval=4
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

from unetv2_monai import InputError
from unetv2_monai.files import write_atomic

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"
SCORES = {"Dice": ("dice", "mean"), "IoU": ("iou", "mean"), "pooled Dice": ("pooled", "dice")}


def files_of(row: str, overlays: list[str]) -> list[str]:
    """The configs of a row: train.json, what all rows share, the row's own recipe."""
    name = row.partition(":")[0]
    names = [*overlays, *([] if name == "unetv2" else [f"recipes/{name}"])]
    files = [CONFIGS / "train.json", *(CONFIGS / f"{name}.yaml" for name in names)]
    for path in files:
        if not path.is_file():
            raise InputError(f"{path} does not exist: a row is unetv2 or the name of a file in {CONFIGS / 'recipes'}.")
    return [str(path) for path in files]


def bundle(run_id: str, files: list[str], options: dict[str, str], log: Path) -> float:
    """Run a config in a process of its own, with its output in ``log``; seconds of CPU time."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    command += [part for key, value in options.items() for part in (f"--{key}", value)]
    with log.open("w") as opened:
        process = subprocess.Popen(command, stdout=opened, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        last = log.read_text().strip().splitlines()[-1:]
        raise InputError(f"{run_id} failed, see {log}: {last}")
    return usage.ru_utime + usage.ru_stime


def train_and_score(row: str, seed: int, options: argparse.Namespace) -> dict:
    """One run: what evaluating wrote, and the training time; read where the run is finished already."""
    folder = options.output_dir / re.sub(r"[^\w=.]+", "_", row) / f"seed{seed}"
    own = dict(item.split("=", 1) for item in [*options.set, *filter(None, row.partition(":")[2].split(","))])
    terms = {"dataset_dir": options.dataset_dir, "overlays": options.overlays, "set": own}
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text())
        if result["terms"] != terms:
            raise InputError(f"{folder} was run with {result['terms']}, now {terms}. Name another --output_dir.")
        return result
    folder.mkdir(parents=True, exist_ok=True)
    files = files_of(row, options.overlays)
    common = {**own, "dataset_dir": options.dataset_dir, "output_dir": str(folder)}
    started = time.time()
    training = {**common, "seed": str(seed), "overwrite": "true"}
    seconds = bundle("training", files, training, folder / "training.log")
    wall = time.time() - started
    bundle("evaluating", [*files, str(CONFIGS / "evaluate.json")], common, folder / "evaluating.log")
    result: dict = {"row": row, "seed": seed, "terms": terms, "cpu_seconds": seconds, "wall_seconds": wall}
    result["summary"] = json.loads((folder / "evaluation" / "summary.json").read_text())
    write_atomic(folder / "result.json", json.dumps(result) + "\n")
    return result


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and, of several seeds, standard deviation."""
    text = f"{fmean(values):.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def tabulate(results: dict[str, list[dict]]) -> str:
    """A Markdown table of all rows."""
    datasets = sorted({name for runs in results.values() for run in runs for name in run["summary"]})
    titles = [f"{name} {score}" for name in datasets for score in SCORES]
    lines = [f"| network | seeds | {' | '.join(titles)} | CPU minutes |", "|---" * (len(titles) + 3) + "|"]
    for row, runs in results.items():
        cells = [spread([run["summary"][name][a][b] for run in runs]) for name in datasets for a, b in SCORES.values()]
        minutes = spread([run["cpu_seconds"] / 60 for run in runs], 1)
        lines.append(f"| {row} | {len(runs)} | {' | '.join(cells)} | {minutes} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="with training and test images")
    parser.add_argument("--output_dir", type=Path, required=True, help="a folder per row and seed, and results.md")
    parser.add_argument("--rows", nargs="+", required=True, metavar="ROW", help="RECIPE or RECIPE:KEY=VALUE,KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--overlays", nargs="*", default=[], metavar="NAME", help="overlays of all rows: recipes/small ..."
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="options of all rows")
    options = parser.parse_args(arguments)
    for row in options.rows:
        files_of(row, options.overlays)
    results: dict[str, list[dict]] = {}
    for seed in options.seeds:  # seeds outside, so that a run cut short has whole rows
        for row in options.rows:
            print(f"{row}, seed {seed}", flush=True)
            results.setdefault(row, []).append(train_and_score(row, seed, options))
            table = tabulate(results)
            write_atomic(options.output_dir / "results.md", table + "\n")
    print(table)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
