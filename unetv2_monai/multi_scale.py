# SPDX-License-Identifier: Apache-2.0
"""Multi-scale training, as the polyp literature does it: batches of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import default_prepare_batch
from torch.nn import functional as F

__all__ = ["MultiScaleBatch"]


class MultiScaleBatch:
    """
    ``prepare_batch`` of a MONAI trainer that brings each batch to one of several scales, drawn by torch's seed.

    Images and masks are resized alike, bilinearly as in PraNet's code (https://arxiv.org/abs/2006.11392), so masks
    become soft at their outlines.

    Args:
        scales: factors of the images' size.
        divisor: sizes are rounded to multiples of it, the encoder's largest stride. Defaults to 32.

    Returns:
        Called with a batch, its images and masks, of shapes (Batch, channels, height, width).
    """

    def __init__(self, scales: Sequence[float], divisor: int = 32) -> None:
        self.scales = tuple(scales)
        self.divisor = divisor

    def __call__(
        self, batchdata: dict[str, torch.Tensor], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prepared: Any = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        image, label = prepared
        scale = self.scales[int(torch.randint(len(self.scales), (1,)))]
        size = [round(n * scale / self.divisor) * self.divisor for n in image.shape[2:]]
        return self._resize(image, size), self._resize(label, size)

    @staticmethod
    def _resize(x: torch.Tensor, size: list[int]) -> torch.Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
