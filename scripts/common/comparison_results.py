# SPDX-License-Identifier: Apache-2.0
"""What compare.py writes of its finished runs: their table, their scores per image and class, and their plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from unetv2_monai import InputError

from .comparisons import EPOCHS, TIME, Row, Run
from .figures import new_figure
from .statistics import Difference, paired_difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot", "scores_as_csv", "tabulate"]

OF_CASES = ("dice", "iou", "hd95", "surface_dice")
MARKERS = "osD^vP*X<>"
FILLED: dict[str, Any] = {"markersize": 6}
HOLLOW: dict[str, Any] = {"markersize": 10, "markerfacecolor": "none"}  # around a filled one of the same run


@dataclass(frozen=True)
class Column:
    """
    A column of the table.

    Args:
        title: of the column.
        cell: its text, of the runs of a row.
    """

    title: str
    cell: Callable[[Sequence[Run]], str]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of several seeds, standard deviation of the values that are numbers; ``"-"`` where none is."""
    values = [value for value in values if math.isfinite(value)]
    text = f"{fmean(values):.{digits}f}" if values else "-"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def dice_difference(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> Difference | None:
    """
    Args:
        runs, reference: of two rows; the seeds that both have are compared.
        dataset: a key of :py:attr:`Run.cases`.

    Returns:
        Of the Dice of each image, the mean over its classes; None where no seed is in both.

    Raises:
        InputError: when they were scored on different images.
    """
    rows, others = ({run.seed: run.dice(dataset) for run in each} for each in (runs, reference))
    pairs = [(rows[seed], others[seed]) for seed in rows if seed in others]
    if not pairs:
        return None
    names = list(pairs[0][0])
    if any(sorted(scores) != sorted(names) for pair in pairs for scores in pair):
        raise InputError(f"{runs[0].row} and {reference[0].row} were scored on different images of {dataset}.")
    first, second = (np.array([[pair[i][name] for name in names] for pair in pairs]) for i in (0, 1))
    return paired_difference(first, second)


def tabulate(results: Mapping[str, Sequence[Run]], reference: str) -> str:
    """
    Args:
        results: runs by the text of their row, none of them empty.
        reference: the row that the others' Dice is compared with.

    Returns:
        A Markdown table of all rows.
    """
    every = [run for runs in results.values() for run in runs]
    columns = [
        Column("network", lambda runs: runs[0].row),
        Column("seeds", lambda runs: str(len(runs))),
        Column("epochs", lambda runs: ", ".join(map(str, sorted({run.epochs for run in runs})))),
    ]
    for dataset in sorted({name for run in every for name in run.cases}):
        columns += columns_of(dataset, every, results.get(reference, ()))
    columns.append(Column("CPU minutes", lambda runs: spread([run.training_seconds / 60 for run in runs], 1)))
    if any(run.peak_mb is not None for run in every):  # runs of earlier versions lack both
        columns.append(Column("peak MB", lambda runs: spread([run.peak_mb or math.nan for run in runs], 0)))
        columns.append(Column("M parameters", parameters))
    titles, *rows = (
        f"| {' | '.join(cells)} |"
        for cells in (
            [column.title for column in columns],
            *([column.cell(runs) for column in columns] for runs in results.values()),
        )
    )
    return "\n".join([titles, "|---" * len(columns) + "|", *rows])


def columns_of(dataset: str, every: Sequence[Run], reference: Sequence[Run]) -> list[Column]:
    """
    Scores of a data set.

    Args:
        dataset: a key of :py:attr:`Run.cases`.
        every: all runs of the table.
        reference: runs of the row that the others' Dice is compared with.
    """

    def mean(title: str, score: str, digits: int = 3) -> Column:
        return Column(f"{dataset} {title}", lambda runs: spread([run.mean(dataset, score) for run in runs], digits))

    def dice_of(index: int) -> Column:
        return Column(
            f"{dataset} class {index} Dice",
            lambda runs: spread([run.classes[dataset][index]["dice"]["mean"] for run in runs]),
        )

    def pooled(runs: Sequence[Run]) -> str:
        return spread([one["pooled"]["dice"] for run in runs for one in run.classes[dataset].values()])

    def difference(runs: Sequence[Run]) -> str:
        is_reference = bool(reference) and runs[0].row == reference[0].row
        return "reference" if is_reference else str(dice_difference(runs, reference, dataset) or "-")

    def hd95(runs: Sequence[Run]) -> str:
        summaries = [one for run in runs for one in run.classes[dataset].values()]
        undefined = sum(one["images"] - one.get("hd95", {"images": 0})["images"] for one in summaries)
        text = spread([run.mean(dataset, "hd95") for run in runs], 2)
        return f"{text} ({undefined} undefined)" if undefined else text

    summaries = [run.classes[dataset] for run in every if dataset in run.cases]
    classes = sorted({index for one in summaries for index in one})
    volumes = any("surface_dice" in one for each in summaries for one in each.values())
    compared = Column(f"{dataset} Dice difference", difference)
    if len(classes) == 1 and not volumes:
        return [mean("Dice", "dice"), mean("IoU", "iou"), Column(f"{dataset} pooled Dice", pooled), compared]
    columns = [mean("Dice", "dice"), compared]
    if len(classes) > 1:
        columns += map(dice_of, classes)
    columns.append(Column(f"{dataset} HD95 ({'mm' if volumes else 'pixels'})", hd95))
    return [*columns, mean("surface Dice", "surface_dice")] if volumes else columns


def parameters(runs: Sequence[Run]) -> str:
    """Millions; all runs of a row have as many."""
    return ", ".join(sorted({f"{run.parameters / 1e6:.2f}" for run in runs if run.parameters is not None})) or "-"


def scores_as_csv(results: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """
    Args:
        results: see :py:func:`plot`.

    Returns:
        A table with a line per run, image and class; a run that is in both terms is there once. A score that is not
        defined is empty, and one that no image has is left out.
    """
    lines: list[dict[str, Any]] = []
    for equal, rows in results.items():
        for run in (run for runs in rows.values() for run in runs if bool(run.time_of) == (equal == TIME)):
            for dataset, images in run.cases.items():
                for image, classes in images.items():
                    for index, row in classes.items():
                        line = {"row": run.row, "seed": run.seed, "terms": equal, "dataset": dataset, "image": image}
                        scores = {key: float(row[key] or "nan") for key in OF_CASES if key in row}
                        found = {key: f"{value:.4f}" for key, value in scores.items() if math.isfinite(value)}
                        lines.append({**line, "class": index, **found})
    text = io.StringIO()
    columns = ["row", "seed", "terms", "dataset", "image", "class"]
    columns += [key for key in OF_CASES if any(key in line for line in lines)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def plot(results: Mapping[str, Mapping[str, Sequence[Run]]]) -> Figure:
    """
    Args:
        results: runs by ``EPOCHS`` (filled markers) or ``TIME`` (hollow ones), then by row.

    Returns:
        Dice, of several classes their mean, against CPU minutes of training, one panel per data set: means over the
        seeds, with standard deviations.
    """
    rows = list(dict.fromkeys(row for each in results.values() for row in each))
    datasets = sorted({name for each in results.values() for runs in each.values() for name in runs[0].cases})
    figure = new_figure(1 + 4.2 * len(datasets), 4.2 + 0.13 * len(rows))
    from matplotlib.lines import Line2D  # an extra, which new_figure asks for

    for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets):
        for equal, each in results.items():
            for row, runs in each.items():
                minutes = [run.training_seconds / 60 for run in runs]
                dice = [run.mean(dataset, "dice") for run in runs]
                several = len(runs) > 1
                axis.errorbar(
                    fmean(minutes), fmean(dice), yerr=stdev(dice) if several else None, linestyle="", capsize=3,
                    xerr=stdev(minutes) if several else None, elinewidth=0.8, **_style(rows.index(row), equal),
                )  # fmt: skip
        classes = next(run.classes[dataset] for each in results.values() for runs in each.values() for run in runs)
        over = "images and classes" if len(classes) > 1 else "images"
        axis.set(title=dataset, xlabel="CPU minutes of training", ylabel=f"Dice, mean over {over}")
        axis.grid(alpha=0.3)
    handles = [
        Line2D([], [], linestyle="", label=Row.parse(row).label, **_style(i, EPOCHS)) for i, row in enumerate(rows)
    ]
    if TIME in results:
        for label, style in (("equal epochs", FILLED), ("equal time", HOLLOW)):
            handles.append(Line2D([], [], linestyle="", label=label, marker="o", color="black", **style))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(datasets), fontsize=8, frameon=False)
    return figure


def _style(index: int, equal: str) -> dict[str, Any]:
    """Rows differ in colour and in form, so that print without colour shows them too."""
    color = f"C{index % 10}"
    terms = FILLED if equal == EPOCHS else {**HOLLOW, "markeredgecolor": color}
    return {"marker": MARKERS[index % len(MARKERS)], "color": color, **terms}
