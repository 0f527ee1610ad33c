# SPDX-License-Identifier: Apache-2.0
"""
This package holds U-Net v2 for MONAI: the network, and the parts of its bundle that no library provides.

A name is imported when it is first used, so that ``unetv2_monai.core`` runs where torch is not installed.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

PLACES = {
    "bfloat16": ["fast_muon"],
    "bundle.disk_cache": ["DiskCacheDataset"],
    "bundle.prepare": ["prepare"],
    "bundle.run_folder": ["start_run"],
    "core.dicom_seg": ["SegFiles"],
    "core.errors": ["InputError", "concise_errors"],
    "core.files": ["existing_file"],
    "core.images": ["to_rgb"],
    "core.masks": ["to_mask"],
    "core.memory": ["keep_memory"],
    "core.places": ["bundle_dir"],
    "data": [
        *("CropLabeld", "LabelWriter", "MultiScaleBatch", "OnImageGridd", "PictureReader"),
        *("RandLesionFreed", "VolumeReader", "endoscope_view", "list_images", "load_datalist", "soft_items"),
    ],
    "handlers.agreement_table": ["AgreementTable"],
    "handlers.calibration": ["Calibration"],
    "handlers.checkpoints": ["AtomicCheckpointSaver"],
    "handlers.network": ["BroadcastBuffers", "ClipGradients", "MovingAverage"],
    "handlers.runs": ["TrainingRun"],
    "handlers.score_table": ["ScoreTable"],
    "inferers": ["Ensemble", "FlipInferer", "FunctionNetwork", "OpenVINONetwork", "PlainInferer", "SlabInferer"],
    "losses": ["SoftDiceCELoss", "StructureLoss"],
    "masked": ["ClearIgnoredd", "ignoring"],
    "metrics": ["agreement"],
    "networks": ["SDI", "UNetV2", "load_members", "load_weights"],
    "postprocessing": ["HysteresisThresholdd", "MaskWriter", "SaveLesionsd"],
    "released": ["convert_released_state_dict"],
}
HOME = {name: module for module, names in PLACES.items() for name in names}

__all__ = list(HOME)


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *HOME])
