# SPDX-License-Identifier: Apache-2.0
"""Find, check and augment the images and masks of a data set."""

from .augmentation import MultiScaleBatch, RandLesionFreed
from .datalist import load_datalist
from .dicoms import PictureReader
from .distillation import soft_items
from .image_list import list_images
from .pictures import SaveOverlayd
from .view import CropLabeld, endoscope_view
from .volumes import LabelWriter, OnImageGridd, VolumeReader
