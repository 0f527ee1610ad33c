#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train networks under equal terms and compare their scores.

    python scripts/compare.py --dataset_dir data/polyp --output_dir output/compare --rows unetv2 \\
        "unetv2:network_def#sdi=false" unet unetplusplus fpn segresnet --seeds 0 1 2 \\
        --overlays recipes/recommended options/ema --set image_size=96 max_epochs=12 val_interval=4

A row is the name of a recipe, optionally with its own options; unetv2 stands for train.json alone. The overlays of all
rows come before the row's recipe. All rows are compared with the first.

results.md gets a table, results.png the validation Dice against CPU minutes, and scores.csv the scores of every image
and class, of all finished runs in the output folder. Finished runs are not repeated. A stopped one starts anew. One
process at a time may use the folder.
"""

import json
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from common.bundle import CONFIGS, read_config, run_bundle
from common.command import new_parser, run
from common.options import add_set, key_and_text, values_of
from common.pages import markdown, new_figure, to_png

from unetv2_monai import InputError
from unetv2_monai.core.files import read_csv, write_atomic, write_csv
from unetv2_monai.metrics import bootstrap_interval, count_scores

OPTION = re.compile(r"(?:[\[{][^=]*[\]}]|[^,])+")  # text up to a comma; lists and dicts are kept whole
SCORES = ("dice", "iou", "hd95", "surface_dice")
NOTE = """\
Dice differences are to {reference}: means over the common seeds and all images, with the 95 % interval of a paired
bootstrap over both. For several classes, Dice, HD95 and surface Dice are means over the classes, and the difference is
that of each image's mean. HD95 is over images where mask and prediction both have the class; the others are undefined.
CPU minutes cover the epochs with their validation. Peak MB is the resident memory of the training process.
"""


def read_row(text: str, terms: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Read ``RECIPE:KEY=VALUE,KEY=VALUE``: its configs, and the options of all rows with its own."""
    recipe, _, options = text.partition(":")
    names = ["train.json", *(f"{name}.yaml" for name in terms["overlays"])]
    names += [] if recipe == "unetv2" else [f"recipes/{recipe}.yaml"]
    for path in (CONFIGS / name for name in names):
        if not path.is_file():
            raise InputError(f"{path} does not exist: a row is unetv2 or the name of a file in {CONFIGS / 'recipes'}.")
    try:
        return names, {**terms["set"], **dict(map(key_and_text, OPTION.findall(options)))}
    except ArgumentTypeError as error:
        raise InputError(f"--rows {text}: {error}.") from None


@dataclass(frozen=True)
class Run:
    """A finished run: trained and scored. Seconds are of the training process."""

    row: str  # its text
    seed: int
    terms: dict[str, Any]  # that all rows have in common
    epochs: int
    epoch_seconds: float  # of all epochs, with their validation, on the clock
    wall_seconds: float  # of the whole process, on the clock
    cpu_seconds: float  # of the whole process, in all its threads
    folder: Path
    peak_mb: float = float("nan")  # largest resident memory
    parameters: float = float("nan")  # their number

    @cached_property
    def scores(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of ``scores.csv`` by data set, sorted. Images have paths below their common folder."""
        lines = read_csv(self.folder / "evaluation" / "scores.csv")
        lines.sort(key=lambda line: (line["image"], int(line["class"])))
        names = sorted({line["dataset"] for line in lines})
        datasets = {name: [line for line in lines if line["dataset"] == name] for name in names}
        for found in datasets.values():
            top = os.path.commonpath([os.path.dirname(line["image"]) for line in found])
            for line in found:
                line["image"] = os.path.relpath(line["image"], top)
        return datasets

    def values(self, dataset: str, score: str) -> np.ndarray:
        """Return a score as (images, classes), with nan where it is not defined or was not computed."""
        every = [float(line.get(score) or "nan") for line in self.scores[dataset]]
        return np.reshape(every, (-1, len({line["class"] for line in self.scores[dataset]})))


def read_runs(folder: Path, terms: Mapping[str, Any]) -> dict[str, list[Run]]:
    """Read the finished runs of a comparison by row, in the order of their seeds. They must have these terms."""
    found: dict[str, list[Run]] = {}
    for path in folder.glob("*/seed*/result.json"):
        one = Run(**json.loads(path.read_text()), folder=path.parent)
        if one.terms != terms:
            raise InputError(f"{one.folder} was run with {one.terms}, now {terms}. Name another --output_dir.")
        found.setdefault(one.row, []).append(one)
    return {text: sorted(found[text], key=lambda one: one.seed) for text in sorted(found)}


def train_and_score(row: str, seed: int, terms: dict[str, Any], output_dir: Path) -> None:
    """Train and score one run in a folder of its own, and mark it as finished."""
    print(f"{row}, seed {seed}", flush=True)
    folder = output_dir / re.sub(r"[^\w=.]+", "_", row) / f"seed{seed}"
    if (folder / "result.json").is_file():
        raise InputError(f"{folder} holds a run of another row than {row}. Name another --output_dir.")
    folder.mkdir(parents=True, exist_ok=True)
    files, options = read_row(row, terms)
    scoring = {**options, "dataset_dir": terms["dataset_dir"], "output_dir": str(folder)}
    used = run_bundle("training", files, {**scoring, "seed": seed, "overwrite": "true"}, log=folder / "training.log")
    run_bundle("evaluating", [*files, "evaluate.json"], scoring, log=folder / "evaluating.log")
    (folder / "models" / "last.pt").unlink(missing_ok=True)  # large, and such a run is not resumed
    # the parameters are counted in a network without pretrained weights, so that nothing is downloaded
    network = read_config(files, {**values_of(options), "pretrained": False}).get_parsed_content("network_def")
    seconds = [float(line["seconds"]) for line in read_csv(folder / "metrics.csv")]
    content = {"row": row, "seed": seed, "terms": terms, "epochs": len(seconds), "epoch_seconds": sum(seconds)}
    content |= {**used, "parameters": sum(parameter.numel() for parameter in network.parameters())}
    write_atomic(folder / "result.json", json.dumps(content) + "\n")


def tabulate(results: Mapping[str, Sequence[Run]], reference: str) -> str:
    """Return the Markdown table of all rows. ``results`` has the runs of each row; ``reference`` is a row's text."""
    rows = []
    for text, runs in results.items():
        row = {"network": text, "seeds": str(len(runs)), "epochs": ", ".join(sorted({str(run.epochs) for run in runs}))}
        for dataset in runs[0].scores:
            cells = score_cells(runs, results.get(reference, ()), dataset)
            row |= {f"{dataset} {title}": cell for title, cell in cells.items()}
        share = [min(run.epoch_seconds / run.wall_seconds, 1) for run in runs]  # of the epochs, not of the start
        row["CPU minutes"] = spread([run.cpu_seconds * part / 60 for run, part in zip(runs, share)], 1)
        row["peak MB"] = spread([run.peak_mb for run in runs], 0)
        row["M parameters"] = spread([runs[0].parameters / 1e6], 2)  # all runs of a row have as many
        rows.append(row)
    return markdown(rows)


def score_cells(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> dict[str, str]:
    """Return one row's cells for one data set, as a dict from title to cell; ``reference`` may be empty."""
    difference = {"Dice difference": dice_difference(runs, reference, dataset)}
    lines = runs[0].scores[dataset]
    classes, volumes = sorted({int(line["class"]) for line in lines}), "surface_dice" in lines[0]
    values = {score: np.array([run.values(dataset, score) for run in runs]) for score in SCORES}  # seed, image, class
    by_class = {score: np.ma.masked_invalid(every).mean(axis=1) for score, every in values.items()}
    dice, iou, hd95, surface = (by_class[score].mean(axis=1) for score in SCORES)
    if len(classes) == 1 and not volumes:
        counts = [[run.values(dataset, count).sum() for count in ("tp", "fp", "fn")] for run in runs]
        pooled = spread([count_scores(*of_run)["dice"] for of_run in counts])
        return {"Dice": spread(dice), "IoU": spread(iou), "pooled Dice": pooled, **difference}
    cells = {"Dice": spread(dice), **difference}
    if len(classes) > 1:
        cells |= {f"class {index} Dice": spread(of_class) for index, of_class in zip(classes, by_class["dice"].T)}
    missing, unit = np.isnan(values["hd95"]).sum(), "mm" if volumes else "pixels"
    cells[f"HD95 ({unit})"] = spread(hd95, 2) + (f" ({missing} undefined)" if missing else "")
    return cells | ({"surface Dice": spread(surface)} if volumes else {})


def spread(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Format the mean and, of several values, the standard deviation of the finite values; ``"-"`` if there is none."""
    finite = np.ma.masked_invalid(values).compressed()
    text = f"{finite.mean():.{digits}f}" if finite.size else "-"
    return text + (f" ± {finite.std(ddof=1):.{digits}f}" if finite.size > 1 else "")


def dice_difference(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> str:
    """
    Compare the Dice of two rows over the seeds that both have. The Dice of an image is the mean over its classes.

    Returns the difference with its interval, or ``"-"`` without common seeds. Refuses rows scored on different images.
    """
    every = [*runs, *reference]
    if len({tuple((line["image"], line["class"]) for line in run.scores.get(dataset, ())) for run in every}) > 1:
        names = " and ".join(sorted({run.row for run in every}))
        raise InputError(f"{names} were scored on different images of {dataset}. Name another --output_dir.")
    if runs is reference:
        return "reference"
    dice = [{run.seed: run.values(dataset, "dice").mean(axis=1) for run in of} for of in (runs, reference)]
    both = sorted(dice[0].keys() & dice[1].keys())
    first, second = (np.array([of[seed] for seed in both]) for of in dice)
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*paired_difference(first, second)) if both else "-"


def paired_difference(scores: np.ndarray, reference: np.ndarray, resamples: int = 5000) -> tuple[float, float, float]:
    """
    Compute the mean of ``scores - reference`` and its 95 % interval. Both are (seeds, images) in the same order.

    The interval is a percentile bootstrap over seeds and images. In a resample, both networks and all seeds have the
    same images. With one seed, the interval is over images alone; with two or three, it is a coarse estimate.
    """
    difference = scores - reference

    def mean(seeds: np.ndarray, images: np.ndarray, axis: int) -> np.ndarray:
        return difference[seeds[..., :, None], images[..., None, :]].mean(axis=(-2, -1))

    # SciPy resamples the indices of both separately. It refuses samples of one, so a single index is given twice.
    places = [np.arange(size) if size > 1 else np.zeros(2, int) for size in difference.shape]
    whole = float(difference.mean())
    low, high = bootstrap_interval(places, mean, resamples, paired=False) or (whole, whole)
    return whole, low, high


def plot(results: Mapping[str, Sequence[Run]]) -> Any:
    """Plot the validation Dice of every run against its CPU minutes."""
    figure = new_figure(7, 4.5)
    axis = figure.subplots()
    for index, (row, runs) in enumerate(results.items()):
        for one in runs:
            lines = read_csv(one.folder / "metrics.csv")
            minutes = np.cumsum([float(line["seconds"]) for line in lines]) * one.cpu_seconds / one.wall_seconds / 60
            points = [(x, float(line["val_mean_dice"])) for x, line in zip(minutes, lines) if line["val_mean_dice"]]
            axis.plot(*zip(*points), f"C{index % 10}.-", label=row if one is runs[0] else None)
    axis.set(xlabel="CPU minutes of training", ylabel="validation Dice")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def write_results(folder: Path, runs: Mapping[str, Sequence[Run]], rows: Sequence[str]) -> str:
    """Write the table and the scores of all finished runs, the given rows first, and return the table's text."""
    results = {row: runs[row] for row in dict.fromkeys([*rows, *runs]) if row in runs}
    text = f"{tabulate(results, rows[0])}\n\n{NOTE.format(reference=rows[0])}"
    write_atomic(folder / "results.md", text)
    try:
        write_atomic(folder / "results.png", to_png(plot(results)))
    except InputError as error:  # without matplotlib
        print(f"no plot: {error}")
    lines: list[dict[str, Any]] = [
        {"row": one.row, "seed": one.seed, **line}
        | {key: f"{float(line.get(key) or 'nan'):.4f}".replace("nan", "") for key in SCORES}  # undefined: an empty cell
        for one in (one for found in results.values() for one in found)
        for line in (line for found in one.scores.values() for line in found)
    ]
    scored = [key for key in SCORES if any(line[key] for line in lines)]
    write_csv(folder / "scores.csv", lines, ["row", "seed", "dataset", "image", "class", *scored])
    return text


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", required=True, help="data set with training and test images")
    parser.add_argument("--output_dir", type=Path, required=True, help="for the results and a folder per row and seed")
    parser.add_argument("--rows", nargs="+", required=True, metavar="ROW", help="RECIPE or RECIPE:KEY=VALUE,KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--overlays", nargs="*", default=[], metavar="NAME", help="overlays of all rows")
    add_set(parser, "options of all rows")
    arguments = parser.parse_args(argv)
    rows, folder = arguments.rows, arguments.output_dir
    terms = {"dataset_dir": arguments.dataset_dir, "overlays": arguments.overlays, "set": arguments.set}
    for row in rows:
        read_row(row, terms)  # before any training
    for seed in arguments.seeds:  # the outer loop, so that after each seed all rows can be compared
        for row in rows:
            if all(run.seed != seed for run in read_runs(folder, terms).get(row, ())):
                train_and_score(row, seed, terms, folder)
                write_results(folder, read_runs(folder, terms), rows)
    print(write_results(folder, read_runs(folder, terms), rows))


if __name__ == "__main__":
    run(main)
