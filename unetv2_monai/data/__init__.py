# SPDX-License-Identifier: Apache-2.0
"""From folders to lists of files, images and masks."""

from .checks import IMAGE_ENDINGS, VOLUME_ENDINGS
from .datalist import find_pairs, load_datalist
from .image_list import ImageList, list_images, report_images
from .images import to_mask, to_rgb
from .lesion_free import RandLesionFreed
from .multi_scale import MultiScaleBatch
from .overlays import SaveOverlayd
from .volumes import LabelWriter

__all__ = [
    "IMAGE_ENDINGS",
    "VOLUME_ENDINGS",
    "ImageList",
    "LabelWriter",
    "MultiScaleBatch",
    "RandLesionFreed",
    "SaveOverlayd",
    "find_pairs",
    "list_images",
    "load_datalist",
    "report_images",
    "to_mask",
    "to_rgb",
]
