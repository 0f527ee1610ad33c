# SPDX-License-Identifier: Apache-2.0
"""Crop frames to the endoscope's picture, and their masks alike."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, SpatialCrop
from monai.utils import convert_to_numpy

from ..core.view import find_view

START, END = "foreground_start_coord", "foreground_end_coord"  # where CropForegroundd notes its box


def endoscope_view(image: torch.Tensor) -> torch.Tensor:
    """Mark the endoscope's picture in a frame, for the ``select_fn`` of MONAI's ``CropForegroundd``.

    ``image`` is RGB of 0 to 255 and shape (3, height, width). The result is boolean, of shape (1, height, width), and
    True in the box of :py:func:`unetv2_monai.core.view.find_view`.
    """
    marked = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    marked[0][find_view(convert_to_numpy(image).transpose(1, 2, 0))] = True
    return marked


class CropLabeld(MapTransform):
    """Crop masks to the box that ``CropForegroundd`` has cropped their image to; leave them whole if it has not.

    In training this step precedes the resizing of masks. In evaluation masks stay whole, so that nothing of them is
    lost. ``keys``: keys of the masks, of shape (channels, height, width).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the masks of an item, and remove the box from it."""
        item = dict(data)
        if START in item:
            crop = SpatialCrop(roi_start=item.pop(START), roi_end=item.pop(END))
            for key in self.key_iterator(item):
                item[key] = crop(item[key])
        return item
