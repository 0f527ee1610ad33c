# SPDX-License-Identifier: Apache-2.0
"""Files that are written atomically, or must be there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

__all__ = ["atomic", "existing_file", "refusing", "write_atomic"]


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """
    Turn errors of writing into one sentence.

    Args:
        path: of a file that is written in the context.

    Raises:
        InputError: when it cannot be written (no space, no right).
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError when the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be written ({reason}). What was written before is whole. Make room, or name another folder."
        ) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """
    Write a file atomically: at any moment the old or the new content is there, also if the process is killed.

    Args:
        path: of the file; its folder is made if need be.

    Returns:
        A context with the path to write to. At its end the file gets its name; after an error it is deleted.

    Raises:
        InputError: when the folder or the file cannot be written (no space, no right); an old file stays as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """
    Write a file as :py:func:`atomic` does, and wait until the disk has it.

    Args:
        path: of the file; its folder is made if need be.
        content: text, bytes, or a function that writes them to the opened file.

    Raises:
        InputError: when the folder or the file cannot be written (no space, no right); an old file stays as it was.
    """
    with atomic(path) as partial, partial.open("wb") as opened:
        if callable(content):
            content(opened)
        else:
            opened.write(content.encode() if isinstance(content, str) else content)
        opened.flush()
        os.fsync(opened.fileno())


def existing_file(path: str) -> str:
    """
    Refuse a missing file by our own error, where a library's would be unclear.

    Args:
        path: of an exported network.

    Returns:
        ``path``.

    Raises:
        InputError: when there is no such file.
    """
    if not Path(path).is_file():
        raise InputError(f"no exported network at {path}. Export the weights, or name a file that is there.")
    return path
