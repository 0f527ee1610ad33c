# SPDX-License-Identifier: Apache-2.0
"""Facts about images and their masks, and what they look like."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from unetv2_monai import InputError, to_mask, to_rgb
from unetv2_monai.core.overlay import MASK_COLOR, outlined

from .findings import Facts, Pair

__all__ = ["examine", "thumbnail"]

GRID = 16  # brightness differences between 17 x 16 fields: 256 bits


def examine(pair: Pair, out_channels: int) -> Facts | str:
    """The facts of one pair, or why it cannot be used."""
    try:
        with Image.open(pair.image) as opened:
            mode = opened.mode
        image, mask = read(pair, out_channels)
    except InputError as error:
        return str(error)
    except Exception as error:  # image decoders raise almost anything
        return f"{pair.image} or its mask: cannot be read ({error})"
    fields = np.asarray(image.convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX)).astype(int)
    values = np.asarray(mask)
    return Facts(
        pair=pair,
        size=image.size,
        sha256=hashlib.sha256(np.asarray(image).tobytes()).hexdigest(),
        bits=(fields[:, 1:] > fields[:, :-1]).ravel(),  # whether brightness rises from one field to the next
        values=frozenset(map(int, np.unique(values))),
        lesion=float(np.mean(values > 0)),
        traits={"several colour modes": mode},
    )


def thumbnail(pair: Pair, out_channels: int) -> np.ndarray:
    """A small image with the outline of its mask."""
    image, mask = read(pair, out_channels)
    image.thumbnail((200, 160))
    return outlined(np.asarray(image), np.asarray(mask.resize(image.size)) > 0, MASK_COLOR)


def read(pair: Pair, out_channels: int) -> tuple[Image.Image, Image.Image]:
    """The image in RGB and the mask in class indices, as training reads them."""
    with Image.open(pair.image) as opened:
        image = to_rgb(opened)
    with Image.open(pair.label) as opened:
        mask = to_mask(opened, out_channels)
    if mask.size != image.size:
        raise InputError(f"{pair.label}: {mask.size}, but {Path(pair.image).name} is {image.size}")
    return image, mask
