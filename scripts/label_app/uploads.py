# SPDX-License-Identifier: Apache-2.0
"""Uploaded files. They are decoded, and compared with their image, before anything is stored."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from fastapi import HTTPException, UploadFile
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.listing import NIFTI_ENDINGS, PICTURE_ENDINGS
from unetv2_monai.data.volumes import read_volume

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM")  # not EPS: it starts a program


@contextmanager
def received(file: UploadFile, volumes: bool) -> Iterator[Path]:
    """Keep the file under a plain name in the server's temporary folder while the context lasts. Raises HTTPException
    if ending or header are not those of a volume (or image), and for an InputError within the context that names the
    path.
    """
    name, known = Path(file.filename or "").name, NIFTI_ENDINGS if volumes else PICTURE_ENDINGS
    ending = next((ending for ending in known if name.lower().endswith(ending)), None)
    if ending is None:
        raise HTTPException(415, f"{name[:60]!r} has none of the endings {', '.join(known)}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{ending}"
        with path.open("wb") as opened:
            shutil.copyfileobj(file.file, opened)
        try:
            if not volumes:
                refuse_other_formats(path)
            yield path
        except InputError as error:
            if str(path) not in str(error):  # of another file, such as a full disk
                raise
            reason = str(error).removeprefix(f"{path}: ").replace(str(path), "it").splitlines()[0].rstrip(".")
            raise HTTPException(422, f"{name[:60]!r} cannot be used: {reason}.") from None


def refuse_other_formats(path: Path) -> None:
    try:
        Image.open(path, formats=FORMATS).close()
    except Image.DecompressionBombError:
        raise InputError(f"{path}: it has too many pixels") from None
    except (OSError, SyntaxError, ValueError):
        raise InputError(f"{path}: it is no image in {', '.join(FORMATS)}") from None


def renumber(path: Path, segments: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> None:
    """Change the values in a label volume to those of the server's classes. 3D Slicer numbers segments by their order
    in its list, which the user can change. Raises InputError for a value without segment or a segment without class.

    Args:
        path: the file of the label.
        segments: the client's segments, each ``{"name": ..., "idx": value in the file}``.
        classes: the value of each class by its name in lower case.
    """
    names = {segment["idx"]: segment["name"] for segment in segments}
    values = read_volume(str(path))
    label = np.zeros(values.shape, np.uint8)
    for value in np.unique(values[values != 0]).tolist():
        if value not in names:
            raise InputError(f"{path}: it holds the value {value:g}, which no segment has")
        if names[value].lower() not in classes:
            raise InputError(f"{path}: the segment {names[value]!r} is no class. There is: {', '.join(classes)}")
        label[values == value] = classes[names[value].lower()]
    if (label != values).any():
        opened: Any = nibabel.load(path)
        written = nibabel.Nifti1Image(label, opened.affine, opened.header)
        written.set_data_dtype(np.uint8)
        nibabel.save(written, path)
