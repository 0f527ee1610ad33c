# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks, from probabilities to masks and to overlays."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import PILWriter
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from .core.errors import InputError
from .core.hysteresis import hysteresis
from .core.images import read_image
from .core.overlay import PREDICTION_COLOR, outlined, save_overlay

__all__ = ["HysteresisThresholdd", "MaskWriter", "SaveOverlayd"]


class HysteresisThresholdd(MapTransform):
    """
    Threshold the probabilities of one structure, and keep a connected component only if it is certain somewhere.

    See :py:func:`unetv2_monai.core.hysteresis.hysteresis`. The masks hold 0 and 1, in the type of the probabilities.

    Args:
        keys: keys of probabilities of shape (channels, dim_0, dim_1[, dim_2]). Several channels are left unchanged.
        low: a pixel is marked from this probability on. Defaults to 0.5.
        high: a component is kept if one of its pixels reaches this. Values up to ``low`` keep all. Defaults to 0.9.
        allow_missing_keys: whether keys may be absent. Defaults to False.
    """

    def __init__(
        self, keys: KeysCollection, low: float = 0.5, high: float = 0.9, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.low, self.high = low, high

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            if len(out[key]) > 1:
                continue
            if self.high > self.low:
                mask = hysteresis(convert_to_numpy(out[key])[0], self.low, self.high)
                out[key] = convert_to_dst_type(mask[None], out[key])[0]
            else:  # the same, without a copy to the CPU
                out[key] = (out[key] >= self.low).to(out[key].dtype)
        return out


class SaveOverlayd(MapTransform):
    """
    Write ``NAME.jpg``: the image with the outline of its mask and a tint inside. segment.py draws the same overlay.

    Args:
        keys: keys of masks of shape (1, width, height) or (width, height). Their metadata must name the image file.
        output_dir: folder of the overlays.
        opacity: opacity of the tint, 0 to 1. Defaults to 0.3.
        allow_missing_keys: whether keys may be absent. Defaults to False.

    Raises:
        InputError: when called, for masks of volumes.
    """

    def __init__(
        self, keys: KeysCollection, output_dir: str, opacity: float = 0.3, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.folder, self.opacity = Path(output_dir), opacity

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            path = Path(out[key].meta["filename_or_obj"])  # type: ignore[attr-defined]
            mask = convert_to_numpy(out[key]).T > 0
            mask = mask[..., 0] if mask.ndim > 2 else mask
            if mask.ndim != 2:
                raise InputError(f"{path}: overlays are drawn on images, not on volumes. Turn them off.")
            overlay = outlined(read_image(path), mask, PREDICTION_COLOR, self.opacity)
            save_overlay(overlay, self.folder / f"{path.stem}.jpg")
        return out


class MaskWriter(PILWriter):
    """
    Write masks of shape (1, width, height) with Pillow, for ``SaveImaged``.

    MONAI's own writer drops all trailing dimensions of size 1, so it cannot write a mask that is one pixel high.
    """

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, *args: Any, **kwargs: Any) -> None:
        """Take a mask, and drop its channel but no other dimension."""
        super().set_data_array(data_array, channel_dim, **{**kwargs, "squeeze_end_dims": False})
        self.data_obj = self.data_obj[..., 0]
