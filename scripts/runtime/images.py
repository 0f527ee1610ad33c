# SPDX-License-Identifier: Apache-2.0
"""Image files: which are there, how they become RGB, and their size and values as the network takes them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unetv2_monai.core.description import Description

from .files import BrokenFile, InputError

__all__ = ["IMAGE_ENDINGS", "Frame", "duplicates", "list_images", "preprocess", "read_image", "resize", "to_rgb"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
IMAGE_FOLDERS = ("images", "image")
MASK_SUFFIXES = ("_segmentation", "_mask", "_label", "_seg", "_gt")


@dataclass(frozen=True)
class Frame:
    """
    Args:
        name: of the file, or the number of the frame.
        image: (height, width, 3), 0 to 255.
        time: of the frame in its video, in its time base. Defaults to None: an image.
    """

    name: str
    image: np.ndarray
    time: int | None = None


def list_images(folder: Path) -> list[Path]:
    """
    Args:
        folder: of images, or one with ``images/`` or ``image/`` in it.

    Returns:
        The images, sorted, without hidden ones. If every image has its mask beside it (``a_mask.png``), without masks.

    Raises:
        InputError: when there is no image, or both folders hold some.
    """
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in IMAGE_FOLDERS]
    filled = [path for path in inner if _images_in(path)]
    if len(filled) > 1:
        raise InputError(f"{folder} holds images in {' and '.join(path.name + '/' for path in filled)}: name one.")
    root = (filled or inner or [folder])[0]
    paths = _images_in(root)
    if not paths:
        raise InputError(f"{root} holds no image ({', '.join(IMAGE_ENDINGS)}). Sub-folders are not read: name one.")
    stems = {path.stem for path in paths}
    masks = {p.stem for p in paths if any(p.stem.endswith(s) and p.stem[: -len(s)] in stems for s in MASK_SUFFIXES)}
    images = [path for path in paths if path.stem not in masks]
    complete = all(any(path.stem + suffix in masks for suffix in MASK_SUFFIXES) for path in images)
    return images if complete else paths


def _images_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(IMAGE_ENDINGS) and path.name[0] != "." and not path.is_dir()
    ]


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB, as ``unetv2_monai.data.to_rgb`` makes it."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip, not scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


def read_image(path: Path) -> np.ndarray:
    """
    Args:
        path: of an image of any mode.

    Returns:
        (height, width, 3), 0 to 255.

    Raises:
        BrokenFile: when it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            return np.asarray(to_rgb(opened))
    except Exception as error:  # image decoders raise almost anything
        raise BrokenFile(f"{path}: cannot be read ({error})") from error


def preprocess(image: np.ndarray, description: Description, out: np.ndarray) -> None:
    """
    Args:
        image: (height, width, 3), 0 to 255.
        description: of the network.
        out: (1, 3, height, width), float32; gets the image as the network takes it.
    """
    resized = resize(image, description.image_size).transpose(2, 0, 1)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (description.mean, description.std))
    resized -= mean
    np.divide(resized, std, out=out[0])


def resize(image: np.ndarray, size: tuple[int, int], region: tuple[slice, slice] | None = None) -> np.ndarray:
    """
    Resize as ``torch.nn.functional.interpolate(mode="bilinear")`` does: half-pixel centres, no antialiasing.

    Args:
        image: (height, width) or (height, width, channels).
        size: height and width of the result.
        region: rows and columns of the result that are computed, with start and stop. Defaults to None: all.

    Returns:
        The region of the resized image, float32.
    """
    rows, columns = region or (slice(0, size[0]), slice(0, size[1]))
    if image.shape[:2] == size:
        return image[rows, columns].astype(np.float32)
    top, bottom, down = (part[rows] for part in _taps(image.shape[0], size[0]))
    left, right, across = (part[columns] for part in _taps(image.shape[1], size[1]))
    down = down[:, None]
    if bottom[-1] - top[0] < len(top):  # fewer rows in the image than in the result: across first
        first, last = int(top[0]), int(bottom[-1]) + 1
        near = image[first:last].reshape(last - first, image.shape[1], -1).transpose(2, 0, 1)
        wide = _between(near.take(left, 2), near.take(right, 2), across)
        found = _between(wide.take(top - first, 1), wide.take(bottom - first, 1), down)
    else:
        flat = image.reshape(-1)
        corners = (flat.take(place[:, rows, columns], mode="clip") for place in _corners(image.shape, size))
        one, two, three, four = corners
        found = _between(_between(one, two, across), _between(three, four, across), down)
    return found.transpose(1, 2, 0).reshape(*found.shape[1:], *image.shape[2:])


def _between(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear interpolation in float32."""
    start, way = one.astype(np.float32, copy=False), other.astype(np.float32)
    way -= start
    way *= weight
    way += start
    return way


@functools.lru_cache(maxsize=8)
def _corners(shape: tuple[int, ...], size: tuple[int, int]) -> list[np.ndarray]:
    """
    Where the four pixels around each one of the result are in the flat image, upper left, upper right, lower left and
    lower right: (channels, height, width).
    """
    (top, bottom, _), (left, right, _) = _taps(shape[0], size[0]), _taps(shape[1], size[1])
    channels = shape[2] if len(shape) > 2 else 1
    planes = np.arange(channels)[:, None, None]
    return [(y[:, None] * shape[1] + x) * channels + planes for y in (top, bottom) for x in (left, right)]


@functools.lru_cache(maxsize=64)
def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every index of the target: the two indices of the source, and the weight of the second."""
    scale = np.float32(source) / np.float32(target)
    # in one step, as a fused multiply-add rounds it
    position = ((np.arange(target) + 0.5) * float(scale) - 0.5).clip(0).astype(np.float32)
    first = np.minimum(position.astype(np.int64), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, (position - first.astype(np.float32)).clip(0, 1)


def duplicates(paths: Iterable[Path]) -> list[str]:
    """A sentence for every file whose outputs another one's would overwrite."""
    found: dict[str, Path] = {}
    return [f"{p}: same name as {found[p.stem]}" for p in paths if found.setdefault(p.stem, p) is not p]
