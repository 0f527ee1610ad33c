# SPDX-License-Identifier: Apache-2.0
"""Files that come with a call: they are decoded, and compared with their image, before anything is stored."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from fastapi import HTTPException, UploadFile
from options import printable
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.listing import IMAGE_ENDINGS, VOLUME_ENDINGS
from unetv2_monai.data.checks import check_pair, image_size
from unetv2_monai.data.volumes import read_volume

__all__ = ["check_image", "check_label", "check_png", "name_of", "received", "renumber"]

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # others of Pillow's are not read: one of them starts a program


def name_of(file: UploadFile) -> str:
    """The name that the client gave the file, without its folder."""
    return Path((file.filename or "").replace("\\", "/")).name


@contextmanager
def received(file: UploadFile, volumes: bool) -> Iterator[Path]:
    """
    The file under a plain name, in the server's own folder of temporary files, for as long as the context lasts.

    Args:
        file: of the call.
        volumes: whether it must be a volume, else an image.

    Raises:
        HTTPException: when it has another ending or is empty, and instead of an InputError of the context.
    """
    name, known = name_of(file), VOLUME_ENDINGS if volumes else IMAGE_ENDINGS
    ending = next((ending for ending in known if name.lower().endswith(ending)), None)
    if ending is None:
        raise HTTPException(415, f"'{printable(name)}' has none of the endings {', '.join(known)}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{ending}"
        with path.open("wb") as opened:
            shutil.copyfileobj(file.file, opened)
        try:
            if not path.stat().st_size:
                raise InputError("it is empty")
            yield path
        except InputError as error:
            reason = str(error).removeprefix(f"{path}: ").replace(str(path), "it").splitlines()[0].rstrip(".")
            raise HTTPException(422, f"'{printable(name)}' cannot be used: {reason}.") from None


def check_image(path: Path) -> None:
    """Decode an image or a volume. Raises InputError when it cannot be read."""
    if path.suffix in IMAGE_ENDINGS:
        identify(path, FORMATS)
    image_size(str(path))


def check_label(path: Path, image: str, out_channels: int) -> None:
    """
    Decode a label and compare it with its image.

    Args:
        path: of the label.
        image: path of the image.
        out_channels: of the network, which decide the values that the label may have.

    Raises:
        InputError: when it cannot be read, has another size, holds values that are no classes, or as a volume lies
            elsewhere than its image.
    """
    if path.suffix in IMAGE_ENDINGS:
        identify(path, FORMATS)
    check_pair({"image": image, "label": str(path)}, out_channels)


def renumber(path: Path, segments: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> None:
    """
    Give a label volume the values of the server's classes. 3D Slicer numbers segments in their order in its list, which
    its user can change.

    Args:
        path: of the label; it is written anew if its values are others.
        segments: the client's, ``{"name": ..., "idx": value in the file}``.
        classes: values by names, which are in lower case.

    Raises:
        InputError: when it cannot be read, or holds a value of no segment, or a segment that is no class.
    """
    names = {segment["idx"]: segment["name"] for segment in segments}
    values = read_volume(str(path))
    label = np.zeros(values.shape, np.uint8)
    for value in np.unique(values[values != 0]).tolist():
        if value not in names:
            raise InputError(f"it holds the value {value:g}, which no segment has")
        if names[value].lower() not in classes:
            raise InputError(f"the segment '{printable(names[value])}' is no class. There is: {', '.join(classes)}")
        label[values == value] = classes[names[value].lower()]
    if (label != values).any():
        opened: Any = nibabel.load(path)
        written = nibabel.Nifti1Image(label, opened.affine, opened.header)
        written.set_data_dtype(np.uint8)
        nibabel.save(written, path)


def check_png(content: bytes, size: tuple[int, ...], classes: int) -> Image.Image:
    """
    Decode a label of the page: PNG of the image's size, class indices in its only or its red channel.

    Returns:
        The label in mode L.

    Raises:
        HTTPException: when it is anything else.
    """
    try:
        identify(BytesIO(content), ("PNG",))
        with Image.open(BytesIO(content), formats=("PNG",)) as opened:
            if opened.size != size:
                by, image_by = (" x ".join(map(str, each)) for each in (opened.size, size))
                raise HTTPException(422, f"The label is {by}, but its image is {image_by}.")
            if opened.mode not in ("L", "RGB", "RGBA"):
                raise HTTPException(422, f"The label has the mode {opened.mode}, not L, RGB or RGBA.")
            label = opened.getchannel(0)
    except (InputError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise HTTPException(415, "The label is no PNG.") from None
    highest = int(np.asarray(label).max())
    if highest > classes:
        raise HTTPException(422, f"The label holds the value {highest}, but the classes are 0 to {classes}.")
    return label


def identify(file: Path | IO[bytes], formats: tuple[str, ...]) -> None:
    """Raise InputError for a file that is not of these formats, or of too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(file, formats=formats).close()
    except Image.DecompressionBombError:
        raise InputError("it has too many pixels") from None
    except (OSError, SyntaxError, ValueError):
        raise InputError("it is no image in PNG, JPEG, BMP or TIFF") from None
