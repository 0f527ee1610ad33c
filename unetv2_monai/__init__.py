# SPDX-License-Identifier: Apache-2.0
"""U-Net v2 for MONAI: the network, and the few parts of its bundle that no library has."""

from .checkpoints import (
    StrictCheckpointLoader,
    WholeCheckpointSaver,
    convert_released_state_dict,
    existing_file,
    last_checkpoint,
)
from .datalist import list_images, load_datalist, report_images
from .errors import InputError
from .images import to_mask, to_rgb
from .losses import StructureLoss
from .memory import keep_memory
from .multi_scale import MultiScaleBatch
from .runs import EpochLog, EpochSeed, NaNGuard, RunFolder, StopOnSignal, check_options
from .scores import ScoreTable
from .sdi import SDI
from .unetv2 import UNetV2

__version__ = "0.1.0"

__all__ = [
    "SDI",
    "EpochLog",
    "EpochSeed",
    "InputError",
    "MultiScaleBatch",
    "NaNGuard",
    "RunFolder",
    "ScoreTable",
    "StopOnSignal",
    "StrictCheckpointLoader",
    "StructureLoss",
    "UNetV2",
    "WholeCheckpointSaver",
    "check_options",
    "convert_released_state_dict",
    "existing_file",
    "keep_memory",
    "last_checkpoint",
    "list_images",
    "load_datalist",
    "report_images",
    "to_mask",
    "to_rgb",
]
