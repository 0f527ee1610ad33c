# SPDX-License-Identifier: Apache-2.0
"""Rows and finished runs of compare.py."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from unetv2_monai.core.files import write_atomic
from unetv2_monai.handlers.score_table import group_name

from .bundle import Usage
from .rows import Row

__all__ = ["EPOCHS", "TIME", "Row", "Run", "fitting_epochs", "read_runs"]

EPOCHS, TIME = "epochs", "time"  # what is equal for all rows
TOLERANCE = 0.03  # of the time; times of equal runs differ by more
RESULT = "result.json"
Classes = dict[int, dict[str, str]]  # rows of scores.csv of one image


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
        peak_mb: largest resident memory of the training process; None in runs of earlier versions.
        parameters: number of the network's; None in runs of earlier versions.
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
    peak_mb: float | None = None
    parameters: int | None = None

    @classmethod
    def finish(
        cls, row: str, seed: int, time_of: str, terms: dict[str, Any], taken: Usage, parameters: int, folder: Path
    ) -> Run:
        """Note that the run in ``folder`` is finished. The number and time of its epochs are read there."""
        with (folder / "metrics.csv").open(newline="") as opened:
            seconds = [float(row["seconds"]) for row in csv.DictReader(opened)]
        run = cls(
            row, seed, time_of, terms, len(seconds), sum(seconds), taken.wall, taken.cpu, folder, taken.peak_mb,
            parameters,
        )  # fmt: skip
        content = {key: value for key, value in asdict(run).items() if key != "folder"}
        write_atomic(folder / RESULT, json.dumps(content) + "\n")
        return run

    @property
    def training_seconds(self) -> float:
        """CPU time of the epochs alone. Only their time on the clock is known, whose share of the process is taken."""
        return self.cpu_seconds * min(self.epoch_seconds / self.wall_seconds, 1)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What evaluating wrote, by data set and, where there are several classes, class."""
        content: dict[str, Any] = json.loads((self.folder / "evaluation" / "summary.json").read_text())
        return content

    @cached_property
    def cases(self) -> dict[str, dict[str, Classes]]:
        """
        Rows of ``scores.csv`` by data set, image and class. The name of an image is its path below the folder of all
        images of its data set.
        """
        with (self.folder / "evaluation" / "scores.csv").open(newline="") as opened:
            rows = sorted(csv.DictReader(opened), key=lambda row: (row["dataset"], row["image"], int(row["class"])))
        datasets: dict[str, dict[str, Classes]] = {}
        for row in rows:
            datasets.setdefault(row["dataset"], {}).setdefault(row["image"], {})[int(row["class"])] = row
        return {name: _below_common_folder(images) for name, images in datasets.items()}

    @cached_property
    def classes(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Summaries by data set and class; the background is none."""
        rows = {
            name: {each: row for one in images.values() for each, row in one.items()}
            for name, images in self.cases.items()
        }
        several = len({each for found in rows.values() for each in found}) > 1
        return {
            name: {each: self.summary[group_name(found[each], several)] for each in sorted(found)}
            for name, found in rows.items()
        }

    def mean(self, dataset: str, score: str) -> float:
        """Mean over the classes of their mean over images; nan where no class has the score."""
        means = [one[score]["mean"] for one in self.classes[dataset].values() if score in one]
        return fmean(means) if means else math.nan

    def dice(self, dataset: str) -> dict[str, float]:
        """Mean over the classes, by image."""
        return {image: fmean(float(row["dice"]) for row in one.values()) for image, one in self.cases[dataset].items()}


def _below_common_folder(images: Mapping[str, Classes]) -> dict[str, Classes]:
    top = os.path.commonpath([os.path.dirname(path) for path in images])
    return {os.path.relpath(path, top): classes for path, classes in images.items()}


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
