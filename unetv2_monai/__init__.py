# SPDX-License-Identifier: Apache-2.0
"""U-Net v2 for MONAI: the network, and the few parts of its bundle that no library has."""

from .bfloat16 import fast_muon
from .bundle import RunFolder, check_options, keep_memory
from .data import (
    LabelWriter,
    MultiScaleBatch,
    RandLesionFreed,
    list_images,
    load_datalist,
    report_images,
    to_mask,
    to_rgb,
)
from .errors import InputError, concise_errors
from .files import existing_file
from .handlers import (
    AtomicCheckpointSaver,
    BroadcastBuffers,
    ClipGradients,
    EpochLog,
    EpochMean,
    EpochSeed,
    MovingAverage,
    NaNGuard,
    ResumeSchedule,
    ScoreTable,
    StopOnSignal,
    StrictCheckpointLoader,
    WholeCheckpointSaver,
    last_checkpoint,
)
from .inferers import AutocastInferer, FlipInferer, FunctionNetwork, OpenVINOInferer, PlainInferer, SlabInferer
from .losses import StructureLoss
from .networks import SDI, UNetV2, encoder_weights, load_weights
from .postprocessing import HysteresisThresholdd
from .released import convert_released_state_dict

__version__ = "0.1.0"

__all__ = [
    "SDI",
    "AtomicCheckpointSaver",
    "AutocastInferer",
    "BroadcastBuffers",
    "ClipGradients",
    "EpochLog",
    "EpochMean",
    "EpochSeed",
    "FlipInferer",
    "FunctionNetwork",
    "HysteresisThresholdd",
    "InputError",
    "LabelWriter",
    "MovingAverage",
    "MultiScaleBatch",
    "NaNGuard",
    "OpenVINOInferer",
    "PlainInferer",
    "RandLesionFreed",
    "ResumeSchedule",
    "RunFolder",
    "ScoreTable",
    "SlabInferer",
    "StopOnSignal",
    "StrictCheckpointLoader",
    "StructureLoss",
    "UNetV2",
    "WholeCheckpointSaver",
    "check_options",
    "concise_errors",
    "convert_released_state_dict",
    "encoder_weights",
    "existing_file",
    "fast_muon",
    "keep_memory",
    "last_checkpoint",
    "list_images",
    "load_datalist",
    "load_weights",
    "report_images",
    "to_mask",
    "to_rgb",
]
