# SPDX-License-Identifier: Apache-2.0
"""Facts about volumes and their labels, and what they look like."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import nibabel
import numpy as np
from common.slices import Slices
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.overlay import MASK_COLOR, outlined
from unetv2_monai.data.checks import check_pair
from unetv2_monai.data.volumes import read_volume

from .findings import Facts, Pair

__all__ = ["examine", "thumbnail"]


def examine(pair: Pair, out_channels: int) -> Facts | str:
    """The facts of one pair, or why it cannot be used."""
    try:
        check_pair({"image": pair.image, "label": pair.label}, out_channels)
    except InputError as error:
        return str(error)
    image, label = read_volume(pair.image), read_volume(pair.label)
    affine = affine_of(pair.image)
    digest = hashlib.sha256(np.ascontiguousarray(image, dtype=np.float32).tobytes())
    spacing = nibabel.affines.voxel_sizes(affine)[np.argsort(nibabel.io_orientation(affine)[:, 0])]
    return Facts(
        pair=pair,
        size=image.shape[:3],
        sha256=digest.hexdigest(),
        bits=np.unpackbits(np.frombuffer(digest.digest(), np.uint8)).astype(bool),  # equal volumes alone are found
        values=frozenset(map(int, np.unique(label))),
        lesion=float(np.mean(label > 0)),
        traits={
            "several numbers of channels": str(math.prod(image.shape[3:])),
            "several orientations": "".join(nibabel.aff2axcodes(affine)),
            "several spacings": " x ".join(f"{size:.3g}" for size in spacing) + " mm",
        },
        spacing=tuple(map(float, spacing)),
    )


def thumbnail(pair: Pair, out_channels: int) -> np.ndarray:
    """Three slices with the outline of the label."""
    image, label = read_volume(pair.image), read_volume(pair.label)
    mask = label.reshape(label.shape[:3]) > 0
    slices = Slices.through(mask, affine_of(pair.image))
    shown = Image.fromarray(outlined(slices.of_image(image), slices.of_mask(mask), MASK_COLOR))
    shown.thumbnail((200, 480))
    return np.asarray(shown)


def affine_of(path: str) -> np.ndarray:
    """From voxel indices to mm, of shape (4, 4)."""
    opened: Any = nibabel.load(path)
    return np.asarray(opened.affine)
