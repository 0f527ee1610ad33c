#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train networks under equal terms and tabulate their scores.

All have the same data, augmentation, optimiser, epochs and seeds. Weights are chosen on validation images and scored on
test images. The table states mean and standard deviation over the seeds, and the CPU time of training.

    python scripts/compare.py --dataset_dir data/polyp --output_dir output/compare --rows unetv2 \\
        "unetv2:network_def#sdi=false" unet unetplusplus flexibleunet segresnet --seeds 0 1 2 \\
        --overlays recipes/recommended recipes/small options/ema --set image_size=96 max_epochs=12 val_interval=4

A row is the name of a recipe (unetv2 is train.json alone), then its own options if it has some. Finished runs are not
repeated. A run that was stopped starts from the beginning, so that its whole time is counted.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.bundle import CONFIGS, run_bundle
from common.command import new_parser, run
from common.options import add_set, key_and_text

from unetv2_monai import InputError
from unetv2_monai.files import write_atomic


@dataclass(frozen=True)
class Score:
    """A column of the table: ``summary[data set][group][name]``."""

    title: str
    group: str
    name: str


SCORES = (Score("Dice", "dice", "mean"), Score("IoU", "iou", "mean"), Score("pooled Dice", "pooled", "dice"))


@dataclass(frozen=True)
class Row:
    """
    A row of the table.

    Args:
        text: as it was given.
        recipe: ``"unetv2"`` or the name of a file in configs/recipes.
        options: of this row alone.
    """

    text: str
    recipe: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Row:
        """From ``RECIPE:KEY=VALUE,KEY=VALUE``."""
        recipe, _, options = text.partition(":")
        return cls(text, recipe, dict(map(key_and_text, filter(None, options.split(",")))))

    def files(self, overlays: Sequence[str]) -> list[str]:
        """train.json, the overlays of all rows, and the row's own recipe."""
        names = [*overlays, *([] if self.recipe == "unetv2" else [f"recipes/{self.recipe}"])]
        files = ["train.json", *(f"{name}.yaml" for name in names)]
        for path in (CONFIGS / name for name in files):
            if not path.is_file():
                known = f"a row is unetv2 or the name of a file in {CONFIGS / 'recipes'}."
                raise InputError(f"{path} does not exist: {known}")
        return files


def train_and_score(row: Row, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run: what evaluating wrote, and the training time; read where the run is finished already."""
    folder = arguments.output_dir / re.sub(r"[^\w=.]+", "_", row.text) / f"seed{seed}"
    options = {**arguments.set, **row.options}
    terms = {"dataset_dir": arguments.dataset_dir, "overlays": arguments.overlays, "set": options}
    result: dict[str, Any]
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text())
        if result["terms"] != terms:
            raise InputError(f"{folder} was run with {result['terms']}, now {terms}. Name another --output_dir.")
        return result
    folder.mkdir(parents=True, exist_ok=True)
    files = row.files(arguments.overlays)
    common = {**options, "dataset_dir": arguments.dataset_dir, "output_dir": str(folder)}
    training = {**common, "seed": str(seed), "overwrite": "true"}
    taken = run_bundle("training", files, training, log=folder / "training.log")
    run_bundle("evaluating", [*files, "evaluate.json"], common, log=folder / "evaluating.log")
    result = {"row": row.text, "seed": seed, "terms": terms, "cpu_seconds": taken.cpu, "wall_seconds": taken.wall}
    result["summary"] = json.loads((folder / "evaluation" / "summary.json").read_text())
    write_atomic(folder / "result.json", json.dumps(result) + "\n")
    return result


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of several seeds, standard deviation."""
    text = f"{fmean(values):.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def tabulate(results: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """A Markdown table of all rows."""
    datasets = sorted({name for runs in results.values() for run in runs for name in run["summary"]})
    titles = [f"{name} {score.title}" for name in datasets for score in SCORES]
    lines = [f"| network | seeds | {' | '.join(titles)} | CPU minutes |", "|---" * (len(titles) + 3) + "|"]
    for row, runs in results.items():
        cells = [
            spread([run["summary"][name][score.group][score.name] for run in runs])
            for name in datasets
            for score in SCORES
        ]
        minutes = spread([run["cpu_seconds"] / 60 for run in runs], 1)
        lines.append(f"| {row} | {len(runs)} | {' | '.join(cells)} | {minutes} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", required=True, help="with training and test images")
    parser.add_argument("--output_dir", type=Path, required=True, help="a folder per row and seed, and results.md")
    parser.add_argument(
        "--rows", nargs="+", type=Row.parse, required=True, metavar="ROW", help="RECIPE or RECIPE:KEY=VALUE,KEY=VALUE"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--overlays", nargs="*", default=[], metavar="NAME", help="overlays of all rows: recipes/small ..."
    )
    add_set(parser, "options of all rows")
    arguments = parser.parse_args(argv)
    for row in arguments.rows:
        row.files(arguments.overlays)
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:  # the outer loop, so that after each seed all rows can be compared
        for row in arguments.rows:
            print(f"{row.text}, seed {seed}", flush=True)
            results.setdefault(row.text, []).append(train_and_score(row, seed, arguments))
            table = tabulate(results)
            write_atomic(arguments.output_dir / "results.md", table + "\n")
    print(table)


if __name__ == "__main__":
    run(main)
