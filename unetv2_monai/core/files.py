# SPDX-License-Identifier: Apache-2.0
"""Write files atomically, and check that files exist."""

import csv
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .errors import BrokenFile, InputError


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn a write error, such as a full disk or a missing permission, into an InputError that names the file."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError when the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be written ({reason}). What was written before is whole. Make room, or name another folder."
        ) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Make the folder, and yield a temporary path that finally replaces ``path``. Write errors become InputErrors."""
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]  # a name may have 255 bytes, so none are added
    partial = path.with_name(f"{short}.partial")
    try:
        with refusing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file atomically and flush it to the disk. A function as content gets the opened file and writes to it."""
    with atomic(path) as partial, partial.open("wb") as opened:
        if callable(content):
            content(opened)
        else:
            opened.write(content.encode() if isinstance(content, str) else content)
        opened.flush()
        os.fsync(opened.fileno())


def encoded(image: Image.Image, form: str, **options: int) -> bytes:
    """Return the content of a file of an image; ``form`` and options are those of Pillow."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def grey_png(values: np.ndarray) -> bytes:
    """Encode a uint8 image (height, width) as PNG, without the filters that take Pillow half of its time for a mask."""
    head, rows = struct.pack(">2I5B", *values.shape[::-1], 8, 0, 0, 0, 0), np.pad(values, ((0, 0), (1, 0)))
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + head, b"IDAT" + zlib.compress(rows.tobytes(), 1), b"IEND"):
        content += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write the given columns of rows, with a header, as a CSV file, atomically. Other entries are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, by the names in its header."""
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def refuse_waiting(path: str | Path) -> None:
    """Raise BrokenFile for what is no regular file: a pipe would be waited for, a device may never end."""
    if not Path(path).is_file():
        raise BrokenFile(f"{path}: is no regular file, but a pipe, a device or a link that leads nowhere")


def existing_file(path: str) -> str:
    """Return the path of an exported network; raise a clear InputError if the file does not exist."""
    if not Path(path).is_file():
        raise InputError(f"no exported network at {path}. Export the weights, or name a file that is there.")
    return path
