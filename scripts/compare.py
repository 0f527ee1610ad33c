#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Compare the scores of networks that were trained and scored several times, by seeds or by folds.

    unetv2 train DIR --with recommended ema --seed 0 --output_dir runs/unetv2/0   # and so on
    unetv2 evaluate DIR --output_dir runs/unetv2/0
    python scripts/compare.py runs/unetv2 runs/unet

Each folder is a network, and holds a folder for each run. Those of one name, such as a seed or fold_0, are pairs: they
must be scored on the same images. All networks are compared with the first. --output_dir gets results.md with the
table, and scores.csv with the scores of every image and class.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from common.command import new_parser, run
from common.pages import markdown, render
from markupsafe import Markup

from unetv2_monai import InputError
from unetv2_monai.core.files import read_csv, write_atomic, write_csv
from unetv2_monai.metrics import bootstrap_interval, count_scores

SCORES = ("dice", "iou", "hd95", "surface_dice")


class Run:
    """A run that was trained and scored, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

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

    def images(self, dataset: str) -> tuple[tuple[str, str], ...]:
        """Return what was scored: image and class of each row."""
        return tuple((line["image"], line["class"]) for line in self.scores[dataset])


def read_runs(folder: Path) -> list[Run]:
    """Read the runs in a folder, in the order of their names."""
    found = sorted(path.parents[1] for path in folder.glob("*/evaluation/scores.csv"))
    if not found:
        raise InputError(f"{folder} holds no scored run: name a folder with RUN/evaluation/scores.csv for each run.")
    return [Run(path) for path in found]


def tabulate(networks: dict[str, list[Run]], reference: str) -> str:
    """Return the Markdown table of all networks; ``reference`` is the name of one."""
    rows = []
    for name, runs in networks.items():
        curves = [read_csv(run.folder / "metrics.csv") for run in runs]
        row = {"network": name, "runs": str(len(runs)), "epochs": ", ".join(sorted({str(len(one)) for one in curves}))}
        for dataset in runs[0].scores:
            cells = score_cells(runs, networks[reference], dataset)
            row |= {f"{dataset} {title}": cell for title, cell in cells.items()}
        row["minutes"] = spread([sum(float(line["seconds"]) for line in curve) / 60 for curve in curves], 1)
        rows.append(row)
    return markdown(rows)


def score_cells(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> dict[str, str]:
    """Return one row's cells for one data set, as a dict from title to cell; ``reference`` may be empty."""
    difference = {"Dice difference": dice_difference(runs, reference, dataset)}
    lines = runs[0].scores[dataset]
    classes, volumes = sorted({int(line["class"]) for line in lines}), "surface_dice" in lines[0]
    values = {score: [run.values(dataset, score) for run in runs] for score in SCORES}  # (image, class) of each run
    by_class = {
        score: np.ma.stack([np.ma.masked_invalid(of_run).mean(axis=0) for of_run in every])
        for score, every in values.items()
    }
    dice, iou, hd95, surface = (by_class[score].mean(axis=1) for score in SCORES)
    if len(classes) == 1 and not volumes:
        counts = [[run.values(dataset, count).sum() for count in ("tp", "fp", "fn")] for run in runs]
        pooled = spread([count_scores(*of_run)["dice"] for of_run in counts])
        return {"Dice": spread(dice), "IoU": spread(iou), "pooled Dice": pooled, **difference}
    cells = {"Dice": spread(dice), **difference}
    if len(classes) > 1:
        cells |= {f"class {index} Dice": spread(of_class) for index, of_class in zip(classes, by_class["dice"].T)}
    missing, unit = sum(np.isnan(of_run).sum() for of_run in values["hd95"]), "mm" if volumes else "pixels"
    cells[f"HD95 ({unit})"] = spread(hd95, 2) + (f" ({missing} undefined)" if missing else "")
    return cells | ({"surface Dice": spread(surface)} if volumes else {})


def spread(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Format the mean and, of several values, the standard deviation of the finite values; ``"-"`` if there is none."""
    finite = np.ma.masked_invalid(values).compressed()
    text = f"{finite.mean():.{digits}f}" if finite.size else "-"
    return text + (f" ± {finite.std(ddof=1):.{digits}f}" if finite.size > 1 else "")


def dice_difference(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> str:
    """Return the difference of Dice, which is a mean over classes, and its interval; ``"-"`` if no run is shared."""
    if runs is reference:
        return "reference"
    first, second = ({run.name: run for run in of if dataset in run.scores} for of in (runs, reference))
    both = sorted(first.keys() & second.keys())
    if not both:
        return "-"
    for one, other in ((first[name], second[name]) for name in both):
        if one.images(dataset) != other.images(dataset):
            raise InputError(f"{one.folder} and {other.folder} were scored on different images of {dataset}.")
    dice = [[of[name].values(dataset, "dice").mean(axis=1) for name in both] for of in (first, second)]
    if len({first[name].images(dataset) for name in both}) > 1:  # folds
        dice = [[np.concatenate(of)] for of in dice]
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*paired_difference(np.array(dice[0]), np.array(dice[1])))


def paired_difference(scores: np.ndarray, reference: np.ndarray, resamples: int = 5000) -> tuple[float, float, float]:
    """Compute the mean of ``scores - reference`` and its 95 % interval. Both are (seeds, images) in the same order.

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


def write_results(networks: dict[str, list[Run]], folder: Path) -> str:
    """Write the table and the scores of all images; return the table's text. The first network is the reference."""
    reference = next(iter(networks))
    text = render("compare.md.j2", table=Markup(tabulate(networks, reference)), reference=reference)
    write_atomic(folder / "results.md", text)
    lines: list[dict[str, Any]] = [
        {"network": name, "run": one.name, **line}
        | {key: f"{float(line.get(key) or 'nan'):.4f}".replace("nan", "") for key in SCORES}  # undefined: an empty cell
        for name, runs in networks.items()
        for one in runs
        for line in (line for found in one.scores.values() for line in found)
    ]
    scored = [key for key in SCORES if any(line[key] for line in lines)]
    write_csv(folder / "scores.csv", lines, ["network", "run", "dataset", "image", "class", *scored])
    return text


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("networks", nargs="+", type=Path, metavar="FOLDER", help="runs of a network, each in a folder")
    parser.add_argument("--output_dir", type=Path, default=Path("output/compare"), help="default: output/compare")
    arguments = parser.parse_args(argv)
    networks = {folder.name: read_runs(folder) for folder in arguments.networks}
    if len(networks) < len(arguments.networks):
        raise InputError(f"two of {', '.join(map(str, arguments.networks))} have one name. Rename one of them.")
    print(write_results(networks, arguments.output_dir))


if __name__ == "__main__":
    run(main)
