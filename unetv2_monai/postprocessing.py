# SPDX-License-Identifier: Apache-2.0
"""From probabilities to masks, where MONAI has no transform for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from .core.hysteresis import hysteresis

__all__ = ["HysteresisThresholdd"]


class HysteresisThresholdd(MapTransform):
    """
    Threshold the probabilities of one structure, and keep a connected component only if it is certain somewhere.

    See :py:func:`unetv2_monai.core.hysteresis.hysteresis`. The masks of 0 and 1 have the probabilities' type.

    Args:
        keys: of probabilities of shape (channels, dim_0, dim_1[, dim_2]). Those of several channels stay as they are.
        low: a pixel is marked from this probability on. Defaults to 0.5.
        high: a component is kept if one of its probabilities reaches this. Up to ``low`` all are kept. Defaults to 0.9.
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
