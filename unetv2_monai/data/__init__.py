# SPDX-License-Identifier: Apache-2.0
"""From folders to lists of files, images and masks."""

from ..postprocessing import SaveOverlayd
from .augmentation import MultiScaleBatch, RandLesionFreed
from .datalist import find_pairs, load_datalist
from .image_list import list_images
from .volumes import LabelWriter
