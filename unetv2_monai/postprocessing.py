# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks, from probabilities to masks and tables."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import PILWriter
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, SaveImaged
from monai.utils import convert_to_dst_type, convert_to_numpy

from .core.hysteresis import hysteresis
from .core.lesions import lesion_columns, lesion_rows, measure_lesions
from .core.tables import Table

__all__ = ["HysteresisThresholdd", "MaskWriter", "SaveLesionsd"]


class HysteresisThresholdd(MapTransform):
    """Threshold the probabilities of one structure, and keep a connected component only if it is certain somewhere.

    See :py:func:`unetv2_monai.core.hysteresis.hysteresis`. The masks hold 0 and 1, in the type of the probabilities.

    Args:
        keys: keys of probabilities of shape (channels, dim_0, dim_1[, dim_2]). Several channels are left unchanged.
        low: a pixel is marked from this probability on. Defaults to 0.5.
        high: a component is kept if one of its pixels reaches this. Values up to ``low`` keep all. Defaults to 0.9.
        prob_key: key under which the probabilities are kept. Defaults to None: they are not.
    """

    def __init__(self, keys: KeysCollection, low: float = 0.5, high: float = 0.9, prob_key: str | None = None) -> None:
        super().__init__(keys)
        self.low, self.high, self.prob_key = low, high, prob_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            if self.prob_key:
                out[self.prob_key] = out[key]
            if len(out[key]) > 1:
                continue
            if self.high > self.low:
                mask = hysteresis(convert_to_numpy(out[key])[0], self.low, self.high)
                out[key] = convert_to_dst_type(mask[None], out[key])[0]
            else:  # the same, without a copy to the CPU
                out[key] = (out[key] >= self.low).to(out[key].dtype)
        return out


class SaveLesionsd(SaveImaged):
    """Write ``lesions.csv``: a row for each lesion, by :py:func:`unetv2_monai.core.lesions.measure_lesions`.

    The file is ``lesions_incomplete.csv`` until ``finish``. MONAI Label and ``predict`` leave out what saves files, by
    its class. In MONAI Deploy, whose images have no file, this step does nothing.

    Args:
        keys: key of masks of class indices, (1, width, height) or (1, dim_0, dim_1, dim_2).
        prob_key: key of their probabilities, with a channel for each class, or one for one structure.
        output_dir: folder of the file.
        go_on: keep the rows that an earlier run wrote. Defaults to False.
    """

    def __init__(self, keys: KeysCollection, prob_key: str, output_dir: str, go_on: bool = False) -> None:
        MapTransform.__init__(self, keys)
        self.prob_key, self.path, self.go_on = prob_key, Path(output_dir) / "lesions.csv", go_on
        self.table: Table | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the rows of one image."""
        out = dict(data)
        for key in self.key_iterator(out):
            if "filename_or_obj" not in getattr(out[key], "meta", {}):
                continue
            mask, probability = (np.asarray(convert_to_numpy(out[name])) for name in (key, self.prob_key))
            meta, dimensions = out[key].meta, mask.ndim - 1
            self.table = self.table or Table(self.path, lesion_columns(dimensions), self.go_on, keys=3)
            spacing = affine_to_spacing(out[key].affine, dimensions) if dimensions == 3 else meta.get("pixel_spacing")
            spacing = None if spacing is None else np.ravel(convert_to_numpy(spacing)).tolist()
            probability = probability[0] if len(probability) == 1 else probability
            rows = measure_lesions(mask[0].astype(np.uint8), probability, spacing)
            for row in lesion_rows(Path(meta["filename_or_obj"]).name, "", rows):
                self.table.add(row)
        return out

    def finish(self) -> None:
        """Give the file its final name, if there is one."""
        if self.table:
            self.table.finish()


class MaskWriter(PILWriter):
    """Write masks or probabilities of shape (1, width, height) with Pillow, for ``SaveImaged``.

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
