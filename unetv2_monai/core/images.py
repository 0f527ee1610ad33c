# SPDX-License-Identifier: Apache-2.0
"""Read image files as upright RGB, and resize images."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .dicom_pixels import read_frame, stretched
from .errors import BrokenFile, InputError
from .files import refuse_waiting

logger = logging.getLogger(__name__)

CONTRAST = 1 / 4  # of the range; the middle 99 % of the grey values of an image cover more, or else it gets a window


def upright(image: Image.Image) -> Image.Image:
    """Turn an opened image by its EXIF orientation. Black is 0 in it, also where the file has 16 bits and says
    otherwise.

    Raises:
        InputError: when the file holds several pages or frames, of which the second picture of a phone's MPO is none,
            or channels that are neither colours nor transparency.
    """
    pages, tags = getattr(image, "n_frames", 1), getattr(image, "tag_v2", {})
    name = getattr(image, "filename", "") or "image"
    if pages > 1 and image.format != "MPO":
        raise InputError(f"{name}: holds {pages} pages or frames. Save the one that is meant as a file of its own.")
    if (channels := tags.get(277, 1)) > len(image.getbands()):
        raise InputError(f"{name}: holds {channels} channels. Save those that are meant as colours (RGB) or in grey.")
    if tags.get(284) == 2 and max(tags.get(258, (1,))) > 8:  # Pillow reads the bytes of such colours in a wrong order
        raise InputError(f"{name}: holds a plane of 16 bits for each colour. Save it in 8 bits, or pixel by pixel.")
    turned = ImageOps.exif_transpose(image)
    if tags.get(262) == 0 and turned.mode.startswith("I;16"):  # white is zero; Pillow inverts 1 and 8 bits alone
        turned = Image.fromarray(65535 - np.asarray(turned).astype(np.uint16))
    return turned


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode (RGB, RGBA, grey, palette, 1 to 32 bits, float) to upright RGB of 0 to 255.

    Its EXIF orientation is applied, and transparency is dropped, not blended. Grey values of more than 8 bits have the
    range 0 to 65535, floats 0 to 255. Where the middle 99 % of them cover less than a quarter of it, or some lie
    outside of it, their percentiles 0.5 and 99.5 become black and white, as of DICOM without a window; these two are
    ``info["window"]`` of the result.

    Raises:
        InputError: when it has several pages, other channels, values that are no numbers, or dark colours of 16 bits.
    """
    name, wide = getattr(image, "filename", "") or "image", _has_wide_colors(image)
    image = upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _in_bytes(np.asarray(image), name)
    elif wide and np.asarray(image.convert("RGB")).max() < 256 * CONTRAST:
        raise InputError(f"{name}: uses the lower 14 of its 16 bits for each colour alone. Convert it to 8 bits.")
    return image.convert("RGB")


def _has_wide_colors(image: Image.Image) -> bool:
    """Tell whether a file that is not decoded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    return len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _in_bytes(values: np.ndarray, name: str) -> Image.Image:
    """Return grey values of more than 8 bits in 8, by their range or a window."""
    floats = values.dtype.kind == "f"
    if floats and not np.isfinite(values).all():
        raise InputError(f"{name}: holds pixels that are no numbers (NaN or infinite). Replace them by a colour.")
    most = 255 if floats else 65535
    shown, (low, high) = stretched(values)
    if high - low >= CONTRAST * most and values.min() >= 0 and values.max() <= most:
        return Image.fromarray((values // (most // 255)).astype(np.uint8))
    image = Image.fromarray(shown.round().astype(np.uint8))
    image.info["window"] = low, high
    return image


def about_windows(windows: Mapping[str, tuple[float, float]], images: int) -> None:
    """Log how many of so many images have a window from their data, by their names; nothing if none has."""
    for name, (low, high) in [*windows.items()][:1]:
        logger.info(
            f"{len(windows)} of {images} images have grey values of little contrast: the percentiles 0.5 and 99.5 of "
            f"each became black and white ({low:g} and {high:g} of {Path(name).name})."
        )


def read_picture(path: Path) -> Image.Image:
    """Read an image file, or the frame at an address of DICOM, as RGB; raise BrokenFile if it cannot be read."""
    if path.suffix.lower() == ".dcm":
        return Image.fromarray(read_frame(path)[0])
    refuse_waiting(path)
    try:
        with Image.open(path) as opened:
            return to_rgb(opened)
    except InputError as error:
        raise BrokenFile(str(error)) from error
    except Exception as error:  # image decoders raise almost anything
        raise BrokenFile(f"{path}: cannot be read ({error})") from error


def read_channel(path: Path) -> Image.Image:
    """Read one of several files of an image, in grey (mode ``"L"``). Raise BrokenFile as ``read_picture`` does."""
    image = read_picture(path)
    red, *others = image.split()
    if any(other.tobytes() != red.tobytes() for other in others):
        raise BrokenFile(f"{path}: a channel in colours. Save each channel in grey.")
    red.info = image.info
    return red


def read_image(path: Path) -> np.ndarray:
    """Read what ``read_picture`` reads as a uint8 array of shape (height, width, 3)."""
    return np.asarray(read_picture(path))


def resize(image: np.ndarray, size: tuple[int, int], region: tuple[slice, slice] | None = None) -> np.ndarray:
    """Resize to float32 as PyTorch's ``interpolate(mode="bilinear")``; ``image`` has shape (height, width[, channels]).
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
