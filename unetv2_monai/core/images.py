# SPDX-License-Identifier: Apache-2.0
"""Read image files as upright RGB, and resize images."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .dicom_pixels import read_frame
from .errors import BrokenFile, InputError
from .files import refuse_waiting


def upright(image: Image.Image) -> Image.Image:
    """
    Turn an opened image by its EXIF orientation. Black is 0 in it, also where the file has 16 bits and says otherwise.

    Raises:
        InputError: when the file holds several pages or frames; the second picture of a phone's MPO is none.
    """
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":
        name = getattr(image, "filename", "") or "image"
        raise InputError(f"{name}: holds {pages} pages or frames. Save the one that is meant as a file of its own.")
    white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0  # Pillow inverts 1 and 8 bits alone
    turned = ImageOps.exif_transpose(image)
    if white_is_zero and turned.mode.startswith("I;16"):
        turned = Image.fromarray(65535 - np.asarray(turned).astype(np.uint16))
    return turned


def to_rgb(image: Image.Image) -> Image.Image:
    """
    Convert an image of any mode (RGB, RGBA, grey, palette, 1 or 16 bits) to upright RGB with values from 0 to 255.

    Its EXIF orientation is applied, and transparency is dropped, not blended. InputError when it has several pages.
    """
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        name = getattr(image, "filename", "") or "image"
        raise InputError(f"{name}: holds pixels that are no numbers (NaN or infinite). Replace them by a colour.")
    image = upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip, not scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


def read_image(path: Path) -> np.ndarray:
    """
    Read an image file, or the frame at an address of DICOM, as uint8 RGB of shape (height, width, 3).

    Raise BrokenFile if it cannot be read.
    """
    if path.suffix.lower() == ".dcm":
        return read_frame(path)[0]
    refuse_waiting(path)
    try:
        with Image.open(path) as opened:
            return np.asarray(to_rgb(opened))
    except InputError as error:
        raise BrokenFile(str(error)) from error
    except Exception as error:  # image decoders raise almost anything
        raise BrokenFile(f"{path}: cannot be read ({error})") from error


def resize(image: np.ndarray, size: tuple[int, int], region: tuple[slice, slice] | None = None) -> np.ndarray:
    """
    Resize to float32 as PyTorch's ``interpolate(mode="bilinear")``; ``image`` has shape (height, width[, channels]).

    It uses half-pixel centres and no antialiasing. Only the rows and columns in ``region`` are computed; None: all.
    """
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    if image.shape[:2] == size:
        return image[rows, columns].astype(np.float32)
    top, bottom, down = _neighbours(image.shape[0], size[0], rows)
    left, right, across = _neighbours(image.shape[1], size[1], columns)
    channels = image[0, 0].size  # each becomes a column
    left, right = ((index[:, None] * channels + np.arange(channels)).ravel() for index in (left, right))
    across = across.repeat(channels)

    def widened(lines: np.ndarray) -> np.ndarray:
        flat = lines.reshape(len(lines), -1)
        return _between(flat[:, left], flat[:, right], across)

    if bottom[-1] - top[0] < len(top):  # the image has fewer rows than the result: interpolate within rows first
        wide = widened(image[top[0] : bottom[-1] + 1])
        upper, lower = wide.take(top - top[0], 0), wide.take(bottom - top[0], 0)
    else:
        upper, lower = widened(image[top]), widened(image[bottom])
    return _between(upper, lower, down[:, None]).reshape(len(top), -1, *image.shape[2:])


def _neighbours(source: int, target: int, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two source indices, and the weight of the second, for each index in a part of the target."""
    scale = float(np.float32(source) / np.float32(target))
    # rounded to float32 only once, as by a fused multiply-add
    position = ((np.arange(part.start, part.stop) + 0.5) * scale - 0.5).clip(0).astype(np.float32)
    first = np.minimum(position.astype(np.int64), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, (position - first.astype(np.float32)).clip(0, 1)


def _between(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Interpolate linearly between two arrays, in float32."""
    start, way = one.astype(np.float32, copy=False), other.astype(np.float32)
    way -= start
    way *= weight
    way += start
    return way
