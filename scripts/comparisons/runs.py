# SPDX-License-Identifier: Apache-2.0
"""Finished runs of compare.py: how long they took, and their scores."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from common.bundle import Usage

from unetv2_monai.core.files import read_csv, write_atomic
from unetv2_monai.metrics import count_scores

EPOCHS, TIME = "epochs", "time"  # what is equal for all rows
TOLERANCE = 0.03  # share of the time that a row may exceed; times of equal runs differ by more
RESULT = "result.json"


@dataclass(frozen=True)
class Run:
    """A finished run: trained and scored. Seconds are of the training process."""

    row: str  # its text
    seed: int
    time_of: str  # text of the row whose training time it was given; "" if it has the epochs of all rows
    terms: dict[str, Any]  # that all rows have in common
    epochs: int
    epoch_seconds: float  # of all epochs, with their validation, on the clock
    wall_seconds: float  # of the whole process, on the clock
    cpu_seconds: float  # of the whole process, in all its threads
    folder: Path
    peak_mb: float = math.nan  # largest resident memory; unknown in runs of earlier versions
    parameters: float = math.nan  # their number, also unknown in runs of earlier versions

    @classmethod
    def finish(
        cls, row: str, seed: int, time_of: str, terms: dict[str, Any], taken: Usage, parameters: int, folder: Path
    ) -> "Run":
        """Mark the run in ``folder`` as finished. The number and time of its epochs are read from its metrics.csv."""
        seconds = [float(row["seconds"]) for row in read_csv(folder / "metrics.csv")]
        used = taken.wall, taken.cpu, folder, taken.peak_mb, parameters
        run = cls(row, seed, time_of, terms, len(seconds), sum(seconds), *used)
        content = {key: value for key, value in asdict(run).items() if key != "folder"}
        write_atomic(folder / RESULT, json.dumps(content) + "\n")
        return run

    @property
    def training_seconds(self) -> float:
        """Return the CPU time of the epochs: the process's CPU time times their share of its wall-clock time."""
        return self.cpu_seconds * min(self.epoch_seconds / self.wall_seconds, 1)

    @cached_property
    def curve(self) -> list[tuple[float, float]]:
        """Return the CPU minutes of all epochs until then, and the Dice, for each validation in training."""
        points, minutes = [], 0.0
        for row in read_csv(self.folder / "metrics.csv"):
            minutes += float(row["seconds"]) * self.cpu_seconds / self.wall_seconds / 60
            if dice := row.get("val_mean_dice"):
                points.append((minutes, float(dice)))
        return points

    @cached_property
    def scores(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of ``scores.csv`` by data set, sorted. Images have paths below their common folder."""
        datasets: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in read_csv(self.folder / "evaluation" / "scores.csv"):
            datasets[row["dataset"]].append(row)
        for rows in datasets.values():
            top = os.path.commonpath([os.path.dirname(row["image"]) for row in rows])
            rows.sort(key=lambda row: (row["image"], int(row["class"])))
            for row in rows:
                row["image"] = os.path.relpath(row["image"], top)
        return datasets

    def images(self, dataset: str) -> list[str]:
        """Return the names of the images, in order."""
        return list(dict.fromkeys(row["image"] for row in self.scores[dataset]))

    def classes(self, dataset: str) -> list[int]:
        """Return the scored classes, without the background."""
        return sorted({int(row["class"]) for row in self.scores[dataset]})

    def values(self, dataset: str, score: str) -> np.ndarray:
        """Return a score as (images, classes), with nan where it is not defined or was not computed."""
        every = [float(row.get(score) or "nan") for row in self.scores[dataset]]
        return np.reshape(every, (-1, len(self.classes(dataset))))

    def mean(self, dataset: str, score: str) -> float:
        """Average over images, then over classes; nan where no class has the score."""
        return finite_mean([finite_mean(one) for one in self.values(dataset, score).T])

    def pooled_dice(self, dataset: str) -> float:
        """Compute the Dice of all pixels of all images, averaged over classes."""
        tp, fp, fn = (self.values(dataset, count).sum(axis=0) for count in ("tp", "fp", "fn"))
        return finite_mean([count_scores(*counts)["dice"] for counts in zip(tp, fp, fn)])


def finite_mean(values: Sequence[float] | np.ndarray) -> float:
    """Average the finite values; nan if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan


def read_runs(folder: Path) -> list[Run]:
    """Read the finished runs of a comparison, in the order of their rows and seeds."""
    paths = [*folder.glob(f"*/seed*/{RESULT}"), *folder.glob(f"*/time_of_*/seed*/{RESULT}")]
    runs = [Run(**json.loads(path.read_text()), folder=path.parent) for path in paths]
    return sorted(runs, key=lambda run: (run.row, run.seed))


def fitting_epochs(runs: Sequence[Run], reference: Sequence[Run], interval: int) -> int:
    """
    Compute how many epochs of a row fit into the CPU time of the reference's training, with 3 % more allowed.

    The number is a multiple of the validation interval. If less than one interval fits, it is any number from 1 on.
    """
    available = fmean(run.training_seconds for run in reference) * (1 + TOLERANCE)
    epochs = max(int(available / fmean(run.training_seconds / run.epochs for run in runs)), 1)
    return epochs - epochs % interval if epochs >= interval else epochs
