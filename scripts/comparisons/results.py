# SPDX-License-Identifier: Apache-2.0
"""Write the results of compare.py's finished runs: a table, the scores per image and class, and a plot."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from common.pages import markdown, new_figure
from scipy.stats import bootstrap

from unetv2_monai import InputError
from unetv2_monai.core.files import write_csv

from .rows import Row
from .runs import EPOCHS, TIME, Run, finite_mean

PLACE = ("dataset", "image", "class")
SCORES = ("dice", "iou", "hd95", "surface_dice")
MARKERS = "osD^vP*X<>"
Results = Mapping[str, Mapping[str, Sequence[Run]]]  # by EPOCHS or TIME, then by row


def paired_difference(
    scores: np.ndarray, reference: np.ndarray, resamples: int = 5000
) -> tuple[float, tuple[float, float]]:
    """
    Compute the mean of ``scores - reference`` and its 95 % interval. Both are (seeds, images) in the same order.

    The interval is a percentile bootstrap over seeds and images. Both networks get the same resample, so that an image
    that is hard for both cancels out. All seeds of a resample get the same images, as every seed was tested on the same
    ones. With one seed, the interval is over images alone; with two or three, it is a coarse estimate.
    """
    difference = np.asarray(scores, dtype=float) - np.asarray(reference, dtype=float)

    def mean(seeds: np.ndarray, images: np.ndarray, axis: int) -> np.ndarray:
        return difference[seeds[..., :, None], images[..., None, :]].mean(axis=(-2, -1))

    # SciPy resamples the indices of seeds and of images separately, and the statistic combines them. It refuses samples
    # of one, so a single index is given twice.
    places = [np.arange(size) if size > 1 else np.zeros(2, int) for size in difference.shape]
    interval = bootstrap(
        places, mean, vectorized=True, n_resamples=resamples, batch=500, method="percentile", random_state=0
    ).confidence_interval
    return float(difference.mean()), (float(interval.low), float(interval.high))


def tabulate(results: Mapping[str, Sequence[Run]], reference: str) -> str:
    """Return the Markdown table of all rows. ``results`` has the runs of each row; ``reference`` is a row's text."""
    rows = []
    for text, runs in results.items():
        epochs = ", ".join(map(str, sorted({run.epochs for run in runs})))
        row = {"network": text, "seeds": str(len(runs)), "epochs": epochs}
        for dataset in sorted(runs[0].scores):
            cells = score_cells(runs, results.get(reference, ()), dataset)
            row |= {f"{dataset} {title}": cell for title, cell in cells.items()}
        row["CPU minutes"] = spread([run.training_seconds / 60 for run in runs], 1)
        row["peak MB"] = spread([run.peak_mb for run in runs], 0)
        row["M parameters"] = spread([runs[0].parameters / 1e6], 2)  # all runs of a row have as many
        rows.append(row)
    return markdown(rows)


def score_cells(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> dict[str, str]:
    """Return one row's cells for one data set, as a dict from title to cell; ``reference`` may be empty."""

    def mean(score: str, digits: int = 3) -> str:
        return spread([run.mean(dataset, score) for run in runs], digits)

    classes, volumes = runs[0].classes(dataset), "surface_dice" in runs[0].scores[dataset][0]
    is_reference = bool(reference) and runs[0].row == reference[0].row
    difference = "reference" if is_reference else dice_difference(runs, reference, dataset)
    if len(classes) == 1 and not volumes:
        pooled = spread([run.pooled_dice(dataset) for run in runs])
        return {"Dice": mean("dice"), "IoU": mean("iou"), "pooled Dice": pooled, "Dice difference": difference}
    cells = {"Dice": mean("dice"), "Dice difference": difference}
    for place, index in enumerate(classes if len(classes) > 1 else []):
        cells[f"class {index} Dice"] = spread([finite_mean(run.values(dataset, "dice")[:, place]) for run in runs])
    undefined = sum(int(np.isnan(run.values(dataset, "hd95")).sum()) for run in runs)
    hd95 = mean("hd95", 2) + (f" ({undefined} undefined)" if undefined else "")
    cells["HD95 (mm)" if volumes else "HD95 (pixels)"] = hd95
    return cells | ({"surface Dice": mean("surface_dice")} if volumes else {})


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Format the mean and, of several values, the standard deviation of the finite values; ``"-"`` if there is none."""
    values = [value for value in values if math.isfinite(value)]
    text = f"{fmean(values):.{digits}f}" if values else "-"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def dice_difference(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> str:
    """
    Compare the Dice of two rows over the seeds that both have. The Dice of an image is the mean over its classes.

    Returns the difference with its interval, or ``"-"`` without common seeds. Refuses rows scored on different images.
    """
    others = {run.seed: run for run in reference}
    pairs = [(run, others[run.seed]) for run in runs if run.seed in others]
    if not pairs:
        return "-"
    if any(run.images(dataset) != pairs[0][0].images(dataset) for pair in pairs for run in pair):
        raise InputError(f"{runs[0].row} and {reference[0].row} were scored on different images of {dataset}.")
    first, second = (np.array([run.values(dataset, "dice").mean(axis=1) for run in each]) for each in zip(*pairs))
    mean, (low, high) = paired_difference(first, second)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def write_scores(path: Path, results: Results) -> None:
    """
    Write a CSV file with a line per run, image and class. A run at equal epochs and equal time is listed once.

    An undefined score is an empty cell. A score that no image has gets no column.
    """
    lines: list[dict[str, Any]] = []
    for terms, row, run in _listed(results):
        for one in (one for dataset in sorted(run.scores) for one in run.scores[dataset]):
            scores = {key: float(one.get(key) or "nan") for key in SCORES}
            line = {"row": row, "seed": run.seed, "terms": terms, **{key: one[key] for key in PLACE}}
            lines.append(line | {key: f"{value:.4f}" for key, value in scores.items() if math.isfinite(value)})
    scored = [key for key in SCORES if any(key in line for line in lines)]
    write_csv(path, lines, ["row", "seed", "terms", *PLACE, *scored])


def _listed(results: Results) -> Iterator[tuple[str, str, Run]]:
    """Yield every run once, with its terms and its row."""
    for terms, rows in results.items():
        for row, runs in rows.items():
            yield from ((terms, row, run) for run in runs if terms == EPOCHS or run.row != row)


def plot(results: Results) -> Any:
    """
    Plot Dice against CPU minutes: of test images, with deviations over the seeds, and of validations in each run.

    Rows differ in marker and colour, so that a print without colour shows them too. Runs at equal time are hollow.
    """
    order = list(results[EPOCHS])
    runs = [run for found in results[EPOCHS].values() for run in found]
    datasets = sorted({name for run in runs for name in run.scores})
    figure = new_figure(5.2 + 4.2 * len(datasets), 4.2 + 0.13 * len(order))
    *axes, course = figure.subplots(1, len(datasets) + 1)

    def style(row: str, terms: str) -> dict[str, Any]:
        place = order.index(row)
        color = f"C{place % 10}"
        fill = color if terms == EPOCHS else "none"
        return {"marker": MARKERS[place % len(MARKERS)], "color": color, "markerfacecolor": fill}

    for terms, row, run in _listed(results):
        course.plot(*zip(*run.curve), **style(row, terms), markersize=3)
    points_of = [(terms, row, found) for terms, rows in results.items() for row, found in rows.items()]
    for axis, dataset in zip(axes, datasets):
        for terms, row, found in points_of:
            points = [[run.training_seconds / 60 for run in found], [run.mean(dataset, "dice") for run in found]]
            xerr, yerr = map(stdev, points) if len(found) > 1 else (None, None)
            label = Row.parse(row).label + (", equal time" if terms == TIME else "")
            axis.errorbar(
                *map(fmean, points), xerr=xerr, yerr=yerr, **style(row, terms), linestyle="", capsize=3, label=label
            )
        over = "images and classes" if len(runs[0].classes(dataset)) > 1 else "images"
        axis.set(title=dataset, ylabel=f"Dice, mean over {over}")
    course.set(title="validation", ylabel="Dice")
    for axis in (*axes, course):
        axis.set_xlabel("CPU minutes of training")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * len(datasets), fontsize=8, frameon=False)
    return figure
