# SPDX-License-Identifier: Apache-2.0
"""Files that are written atomically, or must be there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

__all__ = ["existing_file", "write_atomic"]


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """
    Write a file atomically: at any moment the old or the new content is there, also if the process is killed.

    Args:
        path: the file; its folder is made if need be.
        content: text, bytes, or a function that writes them to the opened file.

    Raises:
        InputError: when the folder or the file cannot be written (no space, no right); an old file stays as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as opened:
            if callable(content):
                content(opened)
            else:
                opened.write(content.encode() if isinstance(content, str) else content)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError when the disk is full
        raise InputError(
            f"{path} cannot be written ({str(error).splitlines()[0]}). What was written before is whole. "
            "Make room, or name another folder."
        ) from error
    finally:
        if partial.exists():
            partial.unlink()


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
        raise InputError(f"no exported network at {path}. Set --checkpoint to a file that scripts/export.py wrote.")
    return path
