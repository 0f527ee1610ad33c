# SPDX-License-Identifier: Apache-2.0
"""Finished runs of compare.py: their table, their scores per image, and their plot."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from unetv2_monai import InputError
from unetv2_monai.files import write_atomic
from unetv2_monai.handlers.score_table import group_name

from .bundle import CONFIGS
from .figures import new_figure
from .options import key_and_text
from .statistics import Difference, paired_difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EPOCHS", "TIME", "Row", "Run", "fitting_epochs", "plot", "read_runs", "scores_as_csv", "tabulate"]

EPOCHS, TIME = "epochs", "time"  # what is equal for all rows
TOLERANCE = 0.03  # of the time; times of equal runs differ by more
RESULT = "result.json"
MARKERS = "osD^vP*X<>"
FILLED: dict[str, Any] = {"markersize": 6}
HOLLOW: dict[str, Any] = {"markersize": 10, "markerfacecolor": "none"}  # around a filled one of the same run


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

    @property
    def label(self) -> str:
        """``unetv2:network_def#fusion=add`` as ``unetv2 fusion=add``."""
        return " ".join([self.recipe, *(f"{key.rpartition('#')[2]}={value}" for key, value in self.options.items())])

    @property
    def overlays(self) -> list[str]:
        """The file of the row's own recipe, if it has one."""
        return [] if self.recipe == "unetv2" else [f"recipes/{self.recipe}.yaml"]

    def files(self, overlays: Sequence[str]) -> list[str]:
        """train.json, the overlays of all rows, and the row's own recipe."""
        files = ["train.json", *(f"{name}.yaml" for name in overlays), *self.overlays]
        for path in (CONFIGS / name for name in files):
            if not path.is_file():
                known = f"a row is unetv2 or the name of a file in {CONFIGS / 'recipes'}."
                raise InputError(f"{path} does not exist: {known}")
        return files


@dataclass(frozen=True)
class Run:
    """
    A finished run: trained and scored.

    Args:
        row: text of the row.
        seed: of the training.
        time_of: text of the row that it has the time of; ``""`` where it has the epochs of all rows.
        terms: what all rows have in common.
        epochs: number that was trained.
        epoch_seconds: of all epochs, with their validation, on the clock.
        wall_seconds: of the whole training process, with its start, on the clock.
        cpu_seconds: of the whole training process, in all its threads.
        folder: of the run.
    """

    row: str
    seed: int
    time_of: str
    terms: dict[str, Any]
    epochs: int
    epoch_seconds: float
    wall_seconds: float
    cpu_seconds: float
    folder: Path

    @classmethod
    def finish(
        cls, row: str, seed: int, time_of: str, terms: dict[str, Any], wall: float, cpu: float, folder: Path
    ) -> Run:
        """Note that the run in ``folder`` is finished. The number and time of its epochs are read there."""
        with (folder / "metrics.csv").open(newline="") as opened:
            seconds = [float(row["seconds"]) for row in csv.DictReader(opened)]
        run = cls(row, seed, time_of, terms, len(seconds), sum(seconds), wall, cpu, folder)
        content = {key: value for key, value in asdict(run).items() if key != "folder"}
        write_atomic(folder / RESULT, json.dumps(content) + "\n")
        return run

    @property
    def training_seconds(self) -> float:
        """CPU time of the epochs alone. Only their time on the clock is known, whose share of the process is taken."""
        return self.cpu_seconds * min(self.epoch_seconds / self.wall_seconds, 1)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What evaluating wrote, by data set."""
        content: dict[str, Any] = json.loads((self.folder / "evaluation" / "summary.json").read_text())
        return content

    @cached_property
    def images(self) -> dict[str, dict[str, dict[str, str]]]:
        """Scores by data set and image, whose name is its path below the folder of all images of that data set."""
        with (self.folder / "evaluation" / "scores.csv").open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        several = len({row["class"] for row in rows}) > 1
        groups: dict[str, dict[str, dict[str, str]]] = {}
        for row in rows:
            groups.setdefault(group_name(row, several), {})[row["image"]] = row
        return {name: _below_common_folder(group) for name, group in sorted(groups.items())}


def _below_common_folder(group: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    top = os.path.commonpath([os.path.dirname(path) for path in group])
    return {os.path.relpath(path, top): row for path, row in sorted(group.items())}


def read_runs(folder: Path) -> list[Run]:
    """
    Args:
        folder: of a comparison.

    Returns:
        Its finished runs, in the order of their rows and seeds.
    """
    paths = [*folder.glob(f"*/seed*/{RESULT}"), *folder.glob(f"*/time_of_*/seed*/{RESULT}")]
    runs = [Run(**json.loads(path.read_text()), folder=path.parent) for path in paths]
    return sorted(runs, key=lambda run: (run.row, run.seed))


def fitting_epochs(runs: Sequence[Run], reference: Sequence[Run], interval: int) -> int:
    """
    Args:
        runs: of one row, at equal epochs.
        reference: runs of the row whose CPU time of training is the measure.
        interval: of the validations, in epochs.

    Returns:
        How many epochs of the row fit into the reference's time, 3 % more allowed: whole intervals, so that the last
        epoch is validated; where less than one fits, as many as do, and at least 1.
    """
    available = fmean(run.training_seconds for run in reference) * (1 + TOLERANCE)
    epochs = max(int(available / fmean(run.training_seconds / run.epochs for run in runs)), 1)
    return epochs - epochs % interval if epochs >= interval else epochs


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of several seeds, standard deviation."""
    text = f"{fmean(values):.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def dice_difference(runs: Sequence[Run], reference: Sequence[Run], dataset: str) -> Difference | None:
    """
    Args:
        runs, reference: of two rows; the seeds that both have are compared.
        dataset: a key of :py:attr:`Run.images`.

    Returns:
        Of the Dice; None where no seed is in both.

    Raises:
        InputError: when they were scored on different images.
    """
    rows, others = ({run.seed: run.images[dataset] for run in each} for each in (runs, reference))
    pairs = [(rows[seed], others[seed]) for seed in rows if seed in others]
    if not pairs:
        return None
    names = list(pairs[0][0])
    if any(sorted(scores) != sorted(names) for pair in pairs for scores in pair):
        raise InputError(f"{runs[0].row} and {reference[0].row} were scored on different images of {dataset}.")
    first, second = (np.array([[float(pair[i][name]["dice"]) for name in names] for pair in pairs]) for i in (0, 1))
    return paired_difference(first, second)


def tabulate(results: Mapping[str, Sequence[Run]], reference: str) -> str:
    """
    Args:
        results: runs by the text of their row, none of them empty.
        reference: the row that the others' Dice is compared with.

    Returns:
        A Markdown table of all rows.
    """
    datasets = sorted({name for runs in results.values() for run in runs for name in run.summary})
    titles = [f"{name} {title}" for name in datasets for title in (*(s.title for s in SCORES), "Dice difference")]
    lines = [f"| network | seeds | epochs | {' | '.join(titles)} | CPU minutes |", "|---" * (len(titles) + 4) + "|"]
    for row, runs in results.items():
        cells = [row, str(len(runs)), ", ".join(map(str, sorted({run.epochs for run in runs})))]
        for name in datasets:
            cells += [spread([run.summary[name][score.group][score.name] for run in runs]) for score in SCORES]
            if row == reference:
                cells.append("reference")
            else:
                cells.append(str(dice_difference(runs, results.get(reference, ()), name) or "-"))
        cells.append(spread([run.training_seconds / 60 for run in runs], 1))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scores_as_csv(results: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """
    Args:
        results: see :py:func:`plot`.

    Returns:
        A table with a line per run and image; a run that is in both terms is there once.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "seed", "terms", "dataset", "image", "dice", "iou"])
    for equal, rows in results.items():
        for run in (run for runs in rows.values() for run in runs if bool(run.time_of) == (equal == TIME)):
            for dataset, images in run.images.items():
                for image, scores in images.items():
                    values = [f"{float(scores[key]):.4f}" for key in ("dice", "iou")]
                    writer.writerow([run.row, run.seed, equal, dataset, image, *values])
    return text.getvalue()


def plot(results: Mapping[str, Mapping[str, Sequence[Run]]]) -> Figure:
    """
    Args:
        results: runs by ``EPOCHS`` (filled markers) or ``TIME`` (hollow ones), then by row.

    Returns:
        Dice against CPU minutes of training, one panel per data set: means over the seeds, with standard deviations.
    """
    rows = list(dict.fromkeys(row for each in results.values() for row in each))
    datasets = sorted({name for each in results.values() for runs in each.values() for name in runs[0].summary})
    figure = new_figure(1 + 4.2 * len(datasets), 4.2 + 0.13 * len(rows))
    from matplotlib.lines import Line2D  # an extra, which new_figure asks for

    for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets):
        for equal, each in results.items():
            for row, runs in each.items():
                minutes = [run.training_seconds / 60 for run in runs]
                dice = [run.summary[dataset]["dice"]["mean"] for run in runs]
                several = len(runs) > 1
                axis.errorbar(
                    fmean(minutes), fmean(dice), yerr=stdev(dice) if several else None, linestyle="", capsize=3,
                    xerr=stdev(minutes) if several else None, elinewidth=0.8, **_style(rows.index(row), equal),
                )  # fmt: skip
        axis.set(title=dataset, xlabel="CPU minutes of training", ylabel="Dice, mean over images")
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
