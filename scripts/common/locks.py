# SPDX-License-Identifier: Apache-2.0
"""Folders that one process at a time works in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["locked"]


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[TextIO | None]:
    """
    Lock a folder against other processes that lock it, by the file ``lock`` in it.

    The operating system ends the lock with the process, however that ends, or with the last one that it passed the open
    file on to, so that none is left behind; the file, which is empty, stays.

    Args:
        folder: made if need be.
        wait: until another process ends its lock. Defaults to False.

    Yields:
        The open file if this process has the lock, always if ``wait``; else None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield opened
