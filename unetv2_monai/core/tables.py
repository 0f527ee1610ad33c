# SPDX-License-Identifier: Apache-2.0
"""A CSV file that grows row by row, and can be continued after a stop."""

import contextlib
import csv
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError
from .files import atomic, refusing


class Table:
    """A CSV file that grows by rows. A row's first cell is its name. Unfinished, the file is ``NAME_incomplete.csv``.

    ``keys``: how many cells tell rows apart; of several rows that agree in these, the last one counts. ``go_on``: keep
    the rows of both files. Else a finished file of an earlier run is deleted: its rows would count as finished after an
    interruption. Raises InputError when the file cannot be written, or has other columns.
    """

    def __init__(self, path: Path, columns: list[str], go_on: bool = False, keys: int = 1) -> None:
        self.path, self.incomplete = path, path.with_name(f"{path.stem}_incomplete.csv")
        self.columns, self.count, self.keys = columns, 0, keys
        self.rows = {**self._read(self.path), **self._read(self.incomplete)} if go_on else {}
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.opened = self.incomplete.open("w", newline="")
            if not go_on:
                path.unlink(missing_ok=True)
            self.writer = csv.writer(self.opened)
            self.writer.writerows([columns, *self.rows.values()])
            self.opened.flush()

    def _read(self, path: Path) -> dict[tuple[str, ...], list[str]]:
        """Return the rows by their keys."""
        if not path.is_file():
            return {}
        with path.open(newline="") as opened:  # keeps line breaks within names
            header, *rows = [*csv.reader(opened)] or [self.columns]
        if header != self.columns:
            raise InputError(f"{path} has other columns. Leave out --skip_finished, or name another --output_dir.")
        return {tuple(row[: self.keys]): row for row in rows if len(row) == len(header)}  # the last row may be cut off

    def add(self, row: list[str]) -> None:
        """Write a row, with a cell for each column."""
        with refusing(self.path):
            self.writer.writerow(row)
            self.opened.flush()
        self.count += 1

    def finish(self, order: Iterable[str] = ()) -> None:
        """Give the file its final name. ``order``: names whose rows are kept, in order; if empty, keep all."""
        with refusing(self.path):
            self.opened.close()
            if order:
                places = {name: place for place, name in enumerate(order)}
                rows = [row for row in self._read(self.incomplete).values() if row[0] in places]
                rows.sort(key=lambda row: places[row[0]])
                with atomic(self.incomplete) as partial, partial.open("w", newline="") as opened:
                    csv.writer(opened).writerows([self.columns, *rows])
            os.replace(self.incomplete, self.path)

    def discard(self) -> None:
        """Delete the file, unless it is finished."""
        with contextlib.suppress(OSError):  # on a full disk, of a row that is not written yet
            self.opened.close()
        self.incomplete.unlink(missing_ok=True)
