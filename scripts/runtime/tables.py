# SPDX-License-Identifier: Apache-2.0
"""The table of the results: what is measured on a mask, and the CSV file."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unetv2_monai.core.errors import InputError
from unetv2_monai.core.files import atomic, refusing


def columns(classes: Sequence[str]) -> list[str]:
    """Return the columns that :py:func:`measure` fills; ``classes``: the classes' names, background first."""
    each = [f"area {name}" for name in classes[1:]] if len(classes) > 2 else []
    return ["lesion", "area", "probability", "left", "top", "width", "height", "ms", *each]


def measure(mask: np.ndarray, probability: float, milliseconds: float, classes: Sequence[str]) -> list[str]:
    """
    Compute the cells of :py:func:`columns` from a mask of class indices (height, width).

    Areas are shares of the image. The box is the smallest rectangle around all foreground pixels, in pixels. Its cells
    are empty if there are none.
    """
    marked = mask > 0
    y, x = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    box = [x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]] if len(y) else [""] * 4
    areas = [np.count_nonzero(mask == index) / mask.size for index in range(1, len(classes))]
    each = [f"{area:.6f}" for area in areas] if len(areas) > 1 else []
    found = [int(len(y) > 0), f"{sum(areas):.6f}", f"{probability:.4f}", *box, f"{milliseconds:.1f}", *each]
    return [str(value) for value in found]


class Table:
    """
    A CSV file that grows by rows. A row's first cell is its name. Unfinished, the file is ``NAME_incomplete.csv``.

    ``go_on``: keep the rows of both files. Else a finished file of an earlier run is deleted: its rows would count as
    finished after an interruption. Raises InputError when the file cannot be written, or has other columns.
    """

    def __init__(self, path: Path, columns: list[str], go_on: bool = False) -> None:
        self.path, self.incomplete = path, path.with_name(f"{path.stem}_incomplete.csv")
        self.columns, self.count = columns, 0
        self.rows = {**self._read(self.path), **self._read(self.incomplete)} if go_on else {}
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.opened = self.incomplete.open("w", newline="")
            if not go_on:
                path.unlink(missing_ok=True)
            self.writer = csv.writer(self.opened)
            self.writer.writerows([columns, *self.rows.values()])
            self.opened.flush()

    def _read(self, path: Path) -> dict[str, list[str]]:
        """Return the rows by name. If several have the same name, the last one counts."""
        if not path.is_file():
            return {}
        with path.open(newline="") as opened:  # keeps line breaks within names
            header, *rows = [*csv.reader(opened)] or [self.columns]
        if header != self.columns:
            raise InputError(f"{path} has other columns. Leave out --skip_finished, or name another --output_dir.")
        return {row[0]: row for row in rows if len(row) == len(header)}  # the last row may be cut off

    def add(self, row: list[str]) -> None:
        """Write a row, with a cell for each column."""
        with refusing(self.path):
            self.writer.writerow(row)
            self.opened.flush()
        self.count += 1

    def finish(self, order: Iterable[str] = ()) -> None:
        """Give the file its final name. ``order``: names of the rows to keep, in order; if empty, keep all."""
        with refusing(self.path):
            self.opened.close()
            if order:
                rows = self._read(self.incomplete)
                with atomic(self.incomplete) as partial, partial.open("w", newline="") as opened:
                    csv.writer(opened).writerows([self.columns, *(rows[name] for name in order if name in rows)])
            os.replace(self.incomplete, self.path)

    def discard(self) -> None:
        """Delete the file, unless it is finished."""
        self.opened.close()
        self.incomplete.unlink(missing_ok=True)
