# SPDX-License-Identifier: Apache-2.0
"""Whatever Pillow opens -> RGB images and class-index masks. Used as ``converter`` of MONAI's ``PILReader``."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

__all__ = ["to_mask", "to_rgb"]

DARK, BRIGHT = 32, 223  # a 0/255 mask stays below and above these ...
MAX_BETWEEN, MAX_BETWEEN_LOSSY = 0.001, 0.02  # ... but for this share of its pixels, on the outline


def to_rgb(image: Image.Image) -> Image.Image:
    """
    Bring an image of any mode (RGB, RGBA, grey, palette, 1 or 16 bits) to upright RGB, 0 to 255.

    Args:
        image: an opened image. An EXIF orientation is applied; transparency is dropped, not blended.

    Returns:
        The image in mode ``"RGB"``.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip, not scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


def to_mask(image: Image.Image, out_channels: int = 1) -> Image.Image:
    """
    Bring a mask to class indices.

    Args:
        image: an opened mask. For one class: 0/1 or 0/255, where lossy noise (JPEG, smoothed outlines) is cut at half,
            or palette entries 0 (black) and 1. For several classes: grey values or palette entries 0, 1, ...,
            ``out_channels - 1``.
        out_channels: number of output channels of the network. 1 means one class with a sigmoid. Defaults to 1.

    Returns:
        The mask in mode ``"L"`` with values 0 and 1, or 0 to ``out_channels - 1``.

    Raises:
        InputError: when the mask has other values; the message states them.
    """
    lossy = image.format == "JPEG"
    name = getattr(image, "filename", "") or "mask"
    image = ImageOps.exif_transpose(image)
    if out_channels > 1:
        values = np.asarray(image if image.mode in ("P", "L", "I", "I;16") else image.convert("L"))
        if values.max() >= out_channels:
            raise InputError(
                f"{name}: mask values {_shown(values)}, but with out_channels {out_channels} only "
                f"0 to {out_channels - 1} are classes. Map them, or set --out_channels."
            )
        return Image.fromarray(values.astype(np.uint8))

    if image.mode == "P" and (image.getpalette() or [])[:3] == [0, 0, 0]:
        entries = np.asarray(image)
        if entries.max() <= 1:  # whichever colour the palette has for the class, as VOC's
            return Image.fromarray(entries)
    values = np.asarray(image.convert("L"))
    highest = values.max()
    if highest <= 1:
        return Image.fromarray(values)
    if highest <= DARK and lossy:  # an empty mask with compression noise
        return Image.fromarray(np.zeros_like(values))
    between = np.mean((values > DARK) & (values < BRIGHT))
    if highest < BRIGHT or between > (MAX_BETWEEN_LOSSY if lossy else MAX_BETWEEN):
        raise InputError(
            f"{name}: mask values {_shown(values)}, but a mask of one class holds 0 and 1, or 0 and 255. "
            "Map the values, or for several classes set --out_channels to their number, background included."
        )
    return Image.fromarray((values > 127).astype(np.uint8))


def _shown(values: np.ndarray) -> str:
    found = np.unique(values)
    return ", ".join(map(str, found[:8])) + (f", ... ({len(found)} different)" if len(found) > 8 else "")
