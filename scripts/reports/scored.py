# SPDX-License-Identifier: Apache-2.0
"""The rows of ``scores.csv``: by group, the best and the worst, and where they fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetv2_monai.handlers.score_table import group_name

__all__ = ["Case", "Cells", "Scored", "best_median_worst", "failures", "grouped"]

POOR, MOST_LISTED = 0.5, 50  # Dice; images

Cells = list[object]
Case = tuple[str, int]  # path of an image, class


@dataclass(frozen=True)
class Size:
    """A group of lesions: of more than ``low`` and up to ``high`` of the image."""

    low: float
    high: float
    title: str


SIZES = (
    Size(0, 0.02, "small: up to 2 % of the image"),
    Size(0.02, 0.1, "medium: 2 to 10 %"),
    Size(0.1, 1, "large: over 10 %"),
)


@dataclass(frozen=True)
class Scored:
    """
    A row of ``scores.csv``: one class of one image.

    Args:
        group: name of what it is summarised with: the data set, and the class where there are several.
        image: path.
        class_index: 1 for the first class that is not the background.
        dice: of this class.
        tp, fp, fn, tn: pixels.
    """

    group: str
    image: str
    class_index: int
    dice: float
    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def from_row(cls, row: dict[str, str], several: bool = False) -> Scored:
        """``several``: whether there are several classes."""
        counts = {name: int(row[name]) for name in ("tp", "fp", "fn", "tn")}
        return cls(group_name(row, several), row["image"], int(row["class"]), float(row["dice"]), **counts)

    @property
    def case(self) -> Case:
        return self.image, self.class_index

    @property
    def name(self) -> str:
        return Path(self.image).name

    @property
    def lesion(self) -> float:
        """Share of the image that the lesion has."""
        return (self.tp + self.fn) / max(self.tp + self.fp + self.fn + self.tn, 1)

    @property
    def failure(self) -> str:
        """In words."""
        return "empty mask, marked" if self.lesion == 0 else "missed" if self.tp == 0 else "partly found"


@dataclass(frozen=True)
class Group:
    """
    Args:
        by_size: a row of cells for each of ``SIZES``.
        empty: number of images without a lesion.
        marked: on how many of them something was marked.
    """

    by_size: list[Cells]
    empty: int
    marked: int


@dataclass(frozen=True)
class Failures:
    """
    Args:
        limit: Dice below which an image is poor.
        groups: by name: of a data set, or of one class in it.
        poor: a row of cells for each poor image, the worst first.
        more: number of poor images that are not listed.
    """

    limit: float
    groups: dict[str, Group]
    poor: list[Cells]
    more: int


def best_median_worst(rows: Sequence[Scored]) -> dict[str, Scored]:
    """Of one group; the best of those with a lesion, since marking nothing where nothing is gives 1 as well."""
    ranked = sorted(rows, key=lambda row: row.dice)
    lesions = [row for row in ranked if row.lesion > 0] or ranked
    return {"best": lesions[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def grouped(rows: Sequence[Scored]) -> dict[str, list[Scored]]:
    """By data set and class, in the order of the names."""
    return {name: [row for row in rows if row.group == name] for name in sorted({row.group for row in rows})}


def failures_in(rows: Sequence[Scored]) -> Group:
    """What went wrong in one group, by size of the lesion."""
    by_size: list[Cells] = []
    for size in SIZES:
        alike = [row for row in rows if size.low < row.lesion <= size.high]
        dice = f"{np.mean([row.dice for row in alike]):.3f}" if alike else "-"
        poor = sum(row.dice < POOR for row in alike)
        by_size.append([size.title, len(alike), dice, poor, sum(row.tp == 0 for row in alike)])
    empty = [row for row in rows if row.lesion == 0]
    return Group(by_size, len(empty), sum(row.fp > 0 for row in empty))


def failures(rows: Sequence[Scored]) -> Failures:
    """What went wrong, by group and by image."""
    worst = sorted((row for row in rows if row.dice < POOR), key=lambda row: row.dice)
    listed: list[Cells] = [
        [row.group, row.name, f"{row.dice:.3f}", f"{100 * row.lesion:.1f} %", row.failure]
        for row in worst[:MOST_LISTED]
    ]
    groups = {name: failures_in(group) for name, group in grouped(rows).items()}
    return Failures(POOR, groups, listed, len(worst) - len(listed))
