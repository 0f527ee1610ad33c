# SPDX-License-Identifier: Apache-2.0
"""Decode image and mask files, and compare them, before they are used."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from ..core.dicom import located
from ..core.errors import InputError
from ..core.files import refuse_waiting
from ..core.images import about_windows, read_channel, read_picture
from ..core.listing import is_volume
from ..core.masks import to_mask
from .layouts import Item
from .volumes import check_grids, check_label_values, open_volume, read_volume

MAX_LISTED = 200  # problems in one message


def check_each(items: Sequence[Item], check: Callable[[Item], tuple[float, float] | None]) -> list[str | None]:
    """Run a check on every item, with a progress bar. Return the message of its InputError, or None, for each.

    The log counts the items of which the check returns a window.
    """
    windows: dict[str, tuple[float, float]] = {}

    def error_of(item: Item) -> str | None:
        try:
            if window := check(item):
                windows[str(item["image"])] = window
        except InputError as error:
            return str(error)
        return None

    workers = min(8, os.cpu_count() or 1)
    errors = thread_map(error_of, items, max_workers=workers, desc="Checking files", disable=None, leave=False)
    about_windows(windows, len(items))
    return errors


def check_pair(
    item: Item,
    out_channels: int | None = 1,
    in_channels: int | None = None,
    colors: Mapping[str, int] | None = None,
    ignore_label: int | None = None,
) -> tuple[float, float] | None:
    """Decode an image and its masks; raise InputError if their sizes, or the grids of volumes, differ.

    Returns:
        The grey values that become black and white, if the image has a window from its data; see ``to_rgb``.
    """
    first, labels = ensure_tuple(item["image"])[0], ensure_tuple(item["label"])
    if len(labels) > 1 and out_channels != 1:
        names = ", ".join(Path(label).name for label in labels)
        raise InputError(
            f"{first}: has {len(labels)} masks, {names}. They are joined for one class only: save one mask that holds "
            "the class indices."
        )
    image, window = examined(item["image"], in_channels)
    for label in labels:
        mask = mask_size(label, out_channels, colors, ignore_label)
        if image != mask:
            by, image_by = (" x ".join(map(str, size)) for size in (mask, image))
            raise InputError(f"{label}: mask of {by}, but {Path(first).name} is {image_by}")
        if is_volume(first):
            check_grids(first, label)
    return window


def palette_problems(items: Sequence[Item], out_channels: int) -> list[str]:
    """Return a sentence for every indexed mask that gives a class another colour than the masks before it.

    Programs that write the fewest colours number them anew in each file. No pixel is decoded.
    """
    colors: dict[int, tuple[tuple[int, ...], str]] = {}
    problems: list[str] = []
    if out_channels == 1:
        return problems
    for path in (path for item in items for path in ensure_tuple(item["label"]) if not is_volume(path)):
        try:
            with Image.open(path) as opened:
                entries = opened.getpalette() or [] if opened.mode == "P" else []
        except Exception:  # image decoders raise almost anything; check_pair says so
            continue
        for index in range(min(out_channels, len(entries) // 3)):
            color = tuple(entries[3 * index : 3 * index + 3])
            known, other = colors.setdefault(index, (color, path))
            if color != known:
                problems.append(
                    f"{path}: palette entry {index} is {color}, but {known} in {Path(other).name}: the entries are no "
                    "classes. Save class indices in grey, or name the class of each colour by mask_colors."
                )
                break
    return problems


def image_size(files: str | Sequence[str], in_channels: int | None = None) -> tuple[int, ...]:
    """Return the size that ``examined`` returns."""
    return examined(files, in_channels)[0]


def examined(
    files: str | Sequence[str], in_channels: int | None = None
) -> tuple[tuple[int, ...], tuple[float, float] | None]:
    """Decode an image or a volume, which may have a file for each channel; return its width and height in pixels, or
    its size in voxels without channels, and the window that ``to_rgb`` chose, if any.

    Raise InputError if a file cannot be read, if files do not fit each other, or if they do not have ``in_channels``
    (None: any). Images have 3, as RGB.
    """
    path, *others = ensure_tuple(files)
    if path.lower().endswith(".dcm"):
        return read_picture(Path(path)).size, None
    if located(path):
        return open_volume(path).shape, None
    for each in (path, *others):
        refuse_waiting(each)
    if not is_volume(path):
        if others:
            return _examined_channels([Path(each) for each in (path, *others)], in_channels)
        if in_channels not in (None, 3):
            raise InputError(
                f"{path}: images have 3 channels (RGB), but the network takes {in_channels}. Save each channel as a "
                f"file, {Path(path).stem}_0000.png and so on; set in_channels 3; or, if the network is for volumes "
                "(NIfTI), remove this file."
            )
        image = read_picture(Path(path))
        return image.size, image.info.get("window")
    shape = read_volume(path).shape
    for other in others:
        found = read_volume(other).shape
        if found != shape or len(shape) > 3 or not np.allclose(open_volume(other).affine, open_volume(path).affine):
            raise InputError(f"{other}: cannot be a channel of {Path(path).name}: shape or affine differ.")
    channels = math.prod(shape[3:]) * (1 + len(others))
    if in_channels is not None and channels != in_channels:
        extract = f"Extract {'one' if in_channels == 1 else in_channels}, or set" if channels > in_channels else "Set"
        holds = f"holds {channels} channel{'s'[: channels != 1]}, but the network takes {in_channels}"
        raise InputError(f"{path}: {holds}. {extract} in_channels {channels}.")
    return shape[:3], None


def _examined_channels(paths: Sequence[Path], in_channels: int | None) -> tuple[tuple[int, ...], None]:
    """Return what ``examined`` returns for an image with a file for each channel."""
    if in_channels not in (None, len(paths)) or in_channels == 3:
        raise InputError(
            f"{paths[0]}: an image of {len(paths)} files, but the network takes {in_channels} channels. Add --with "
            "channels and the number of files as in_channels. Save three channels in one file of colours."
        )
    sizes = {path: read_channel(path).size for path in paths}
    for path, size in sizes.items():
        if size != sizes[paths[0]]:
            raise InputError(f"{path}: {size} (width, height), but {paths[0].name} has {sizes[paths[0]]}.")
    return sizes[paths[0]], None


def mask_size(
    path: str,
    out_channels: int | None = None,
    colors: Mapping[str, int] | None = None,
    ignore_label: int | None = None,
) -> tuple[int, ...]:
    """Decode a mask and check its values if ``out_channels`` is given. Return its size without a single channel."""
    refuse_waiting(path)
    if not is_volume(path):
        if out_channels is None:
            return _decoded_size(path, lambda opened: opened)
        return _decoded_size(
            path, partial(to_mask, out_channels=out_channels, colors=colors, ignore_label=ignore_label)
        )
    values = read_volume(path)
    if out_channels is not None:
        check_label_values(path, values, out_channels, ignore_label)
    return values.shape[:3] if math.prod(values.shape[3:]) == 1 else values.shape


def read_mask(paths: Sequence[str], reading: Mapping[str, Any]) -> np.ndarray:
    """Return the class indices, joined; unknown pixels are background. Their shape is (height, width), or that of a
    volume.
    """
    found = []
    for path in paths:
        if is_volume(path):
            values = read_volume(path)
            found.append(values.reshape(values.shape[:3]))
        else:
            with Image.open(path) as opened:
                found.append(np.asarray(to_mask(opened, **reading)))
    joined = np.max(found, axis=0)
    return np.where(joined == reading.get("ignore_label"), 0, joined)


def lesion_share(item: Item, **reading: Any) -> float:
    """Return the share of an image that its masks mark; 0 if they cannot be read, which ``check_pair`` tells."""
    with suppress(Exception):  # image decoders raise almost anything
        return float((read_mask(ensure_tuple(item["label"]), reading) > 0).mean())
    return 0.0


def list_problems(root: Path, problems: Sequence[str]) -> str:
    """Return one message for all problems of a folder."""
    more = [f"... and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    lines = "\n  ".join([*problems[:MAX_LISTED], *more])
    return f"{len(problems)} problem{'s'[: len(problems) > 1]} in {root}:\n  {lines}\nFix or remove these files."


def _decoded_size(path: str, convert: Callable[[Image.Image], Image.Image]) -> tuple[int, int]:
    try:
        with Image.open(path) as opened:
            converted = convert(opened)
            converted.load()
            return converted.size
    except InputError:
        raise
    except Exception as error:  # image decoders raise almost anything
        raise InputError(f"{path}: cannot be read ({error})") from error
