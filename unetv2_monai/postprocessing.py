# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks, from probabilities to masks and to overlays."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import PILWriter
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from .core.hysteresis import hysteresis

__all__ = ["HysteresisThresholdd", "MaskWriter"]


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


class MaskWriter(PILWriter):
    """
    Write masks or probabilities of shape (1, width, height) with Pillow, for ``SaveImaged``.

    MONAI's own writer drops all trailing dimensions of size 1, so it cannot write a mask that is one pixel high.

    Args:
        output_dtype: type of the values in the file, but uint16 for a scale of 65535. Defaults to ``numpy.float32``.
        kwargs: further arguments of :py:class:`monai.data.PILWriter`, such as ``scale``.
    """

    def __init__(self, output_dtype: Any = np.float32, **kwargs: Any) -> None:
        super().__init__(np.uint16 if kwargs.get("scale") == 65535 else output_dtype, **kwargs)

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, *args: Any, **kwargs: Any) -> None:
        """Take a mask, and drop its channel but no other dimension."""
        super().set_data_array(data_array, channel_dim, **{**kwargs, "squeeze_end_dims": False})
        self.data_obj = self.data_obj[..., 0]
