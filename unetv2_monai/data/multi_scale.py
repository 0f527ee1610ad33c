# SPDX-License-Identifier: Apache-2.0
"""Multi-scale training, as the polyp literature does it: batches of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import default_prepare_batch
from torch.nn import functional as F

from ..core.errors import InputError

__all__ = ["MultiScaleBatch"]


class MultiScaleBatch:
    """
    ``prepare_batch`` of a MONAI trainer that resizes each batch by one of several factors, drawn by torch's seed.

    Images and masks are resized alike, bilinearly as in PraNet's code (https://arxiv.org/abs/2006.11392), so masks
    become soft at their outlines; masks of several classes, which cannot be mixed, by the nearest pixel.

    Args:
        scales: factors of the images' size.
        divisor: sizes are rounded to multiples of it, the encoder's largest stride. Defaults to 32.
        out_channels: of the network; above 1 masks hold class indices. Defaults to 1.

    Returns:
        When called, images and masks of shape (Batch, channels, height, width). InputError for volumes.
    """

    def __init__(self, scales: Sequence[float], divisor: int = 32, out_channels: int = 1) -> None:
        self.scales = tuple(scales)
        self.divisor = divisor
        self.out_channels = out_channels

    def __call__(self, batchdata: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        prepared: Any = default_prepare_batch(batchdata, *args, **kwargs)
        image, label = prepared
        if image.ndim != 4:
            raise InputError("MultiScaleBatch is for images, not for volumes.")
        scale = self.scales[int(torch.randint(len(self.scales), (1,)))]
        size = [max(1, round(n * scale / self.divisor)) * self.divisor for n in image.shape[2:]]
        image = F.interpolate(image, size, mode="bilinear", align_corners=True)
        if self.out_channels > 1:
            return image, F.interpolate(label, size, mode="nearest-exact")
        return image, F.interpolate(label, size, mode="bilinear", align_corners=True)
