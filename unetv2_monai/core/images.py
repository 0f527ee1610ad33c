# SPDX-License-Identifier: Apache-2.0
"""Images: from files to upright RGB, and resized."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import BrokenFile, InputError

__all__ = ["read_image", "resize", "to_rgb", "upright"]


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
    Bring an image of any mode (RGB, RGBA, grey, palette, 1 or 16 bits) to upright RGB, 0 to 255.

    Its EXIF orientation is applied, and transparency is dropped, not blended. InputError when it has several pages.
    """
    image = upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip, not scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


def read_image(path: Path) -> np.ndarray:
    """Read a file of any mode as RGB of shape (height, width, 3), 0 to 255; BrokenFile when it cannot be read."""
    try:
        with Image.open(path) as opened:
            return np.asarray(to_rgb(opened))
    except InputError as error:
        raise BrokenFile(str(error)) from error
    except Exception as error:  # image decoders raise almost anything
        raise BrokenFile(f"{path}: cannot be read ({error})") from error


def resize(image: np.ndarray, size: tuple[int, int], region: tuple[slice, slice] | None = None) -> np.ndarray:
    """
    Resize (height, width[, channels]) to float32 as ``torch.nn.functional.interpolate(mode="bilinear")`` does.

    Half-pixel centres, no antialiasing. Only ``region`` of the result, rows and columns, is computed; None is all.
    """
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    if image.shape[:2] == size:
        return image[rows, columns].astype(np.float32)
    top, bottom, down = _neighbours(image.shape[0], size[0], rows)
    left, right, across = _neighbours(image.shape[1], size[1], columns)
    flat = image.reshape(len(image), -1)  # channels are columns, too
    channels = flat.shape[1] // image.shape[1]
    left, right = ((index[:, None] * channels + np.arange(channels)).ravel() for index in (left, right))
    across = across.repeat(channels)
    if bottom[-1] - top[0] < len(top):  # fewer rows in the image than in the result: across first
        near = flat[top[0] : bottom[-1] + 1]
        wide = _between(near.take(left, 1), near.take(right, 1), across)
        upper, lower = wide.take(top - top[0], 0), wide.take(bottom - top[0], 0)
    else:
        starts = (top[:, None] * flat.shape[1], bottom[:, None] * flat.shape[1])
        upper, lower = (
            _between(flat.take(row + left, mode="clip"), flat.take(row + right, mode="clip"), across) for row in starts
        )
    return _between(upper, lower, down[:, None]).reshape(len(top), -1, *image.shape[2:])


def _neighbours(source: int, target: int, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each index in a part of the target: the two indices of the source, and the weight of the second."""
    scale = float(np.float32(source) / np.float32(target))
    # in one step, as a fused multiply-add rounds it
    position = ((np.arange(part.start, part.stop) + 0.5) * scale - 0.5).clip(0).astype(np.float32)
    first = np.minimum(position.astype(np.int64), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, (position - first.astype(np.float32)).clip(0, 1)


def _between(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear interpolation in float32."""
    start, way = one.astype(np.float32, copy=False), other.astype(np.float32)
    way -= start
    way *= weight
    way += start
    return way
