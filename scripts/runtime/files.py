# SPDX-License-Identifier: Apache-2.0
"""Errors of the user, files that are written atomically, tables, and iterators that run ahead in a thread."""

from __future__ import annotations

import csv
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["BrokenFile", "InputError", "Table", "ahead", "atomic", "refusing"]

T = TypeVar("T")


class InputError(ValueError):
    """A file or option cannot be used; the message names it. (The package's own class takes torch to import.)"""


class BrokenFile(InputError):
    """An input cannot be read, or not to its end. The others are still segmented."""


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """
    Args:
        path: of a file that is written in the context.

    Raises:
        InputError: when it cannot be written (no space, no right).
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}). What was written before is whole. "
            "Make room, or name another folder."
        ) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """
    Args:
        path: of a file to write; its folder is made if need be.

    Returns:
        A context with the path to write to, of the same ending. At its end the file gets its name; after an error it
        is deleted.

    Raises:
        InputError: when the file cannot be written (no space, no right).
    """
    partial = path.with_name(f".partial_{path.name}")
    try:
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class Table:
    """
    A CSV file that grows by rows. It has its name when it is complete; until then it is ``NAME.csv.partial``.

    Args:
        path: of the complete file.
        columns: its header. The first one names the rows.
        go_on: keep the rows that either file has. Defaults to False: a complete file of another run is deleted, whose
            rows would count as finished after an interruption.

    Raises:
        InputError: when the file cannot be written, or holds other columns.
    """

    def __init__(self, path: Path, columns: list[str], go_on: bool = False) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self.rows: dict[str, list[str]] = {}
        for old in (self.path, self.partial) if go_on else ():
            self.rows |= _rows(old, columns)
        self.count = 0
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.opened = self.partial.open("w", newline="")
            if not go_on:
                self.path.unlink(missing_ok=True)
            self.writer = csv.writer(self.opened)
            self.writer.writerows([columns, *self.rows.values()])
            self.opened.flush()

    def add(self, row: list[str]) -> None:
        """
        Args:
            row: its cells.
        """
        with refusing(self.path):
            self.writer.writerow(row)
            self.opened.flush()
        self.count += 1

    def finish(self, path: Path | None = None, order: Iterable[str] = ()) -> None:
        """
        Give the file its name.

        Args:
            path: another one than at first. Defaults to None.
            order: names of the rows to keep, in order; of several with one name the last one. Defaults to none: the
                rows stay as they were added.
        """
        with refusing(self.path):
            self.opened.close()
            if order:
                header, *rows = _read(self.partial)
                found = {row[0]: row for row in rows}
                with atomic(self.partial) as ordered, ordered.open("w", newline="") as opened:
                    csv.writer(opened).writerows([header, *(found[name] for name in order if name in found)])
            os.replace(self.partial, path or self.path)

    def discard(self) -> None:
        """Delete the file, unless it is finished."""
        self.opened.close()
        self.partial.unlink(missing_ok=True)


def _read(path: Path) -> list[list[str]]:
    with path.open(newline="") as opened:  # line breaks within names stay
        return list(csv.reader(opened))


def _rows(old: Path, columns: list[str]) -> dict[str, list[str]]:
    if not old.is_file():
        return {}
    header, *rows = _read(old) or [columns]
    if header != columns:
        raise InputError(f"{old} has other columns. Leave out --skip_finished, or name another --output_dir.")
    return {row[0]: row for row in rows if len(row) == len(columns)}  # the last one may be cut off


def ahead(items: Iterable[T], size: int) -> Iterator[T]:
    """
    Run an iterator in a thread of its own.

    Args:
        items: taken in their order; an error is raised after the items before it.
        size: so many items are made ahead at most.

    Returns:
        The same items. When it is closed early, the thread ends after the item that it is at.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(size)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                return made.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put("item", item)
                if stopped.is_set():
                    break
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            if close := getattr(iterator, "close", None):
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
