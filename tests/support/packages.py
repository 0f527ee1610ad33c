# SPDX-License-Identifier: Apache-2.0
"""Packages of the bundle, made and opened."""

import json
from pathlib import Path

from unetv2_monai import __version__

from ..conftest import ROOT, script

MODELS = ROOT / "bundle" / "models"
NAME = "unetv2_lesion_segmentation"


def pack(*arguments: object, onnx: bool = False) -> None:
    """``onnx`` takes several seconds."""
    script("package_bundle").main([*map(str, arguments), *([] if onnx else ["--no_onnx"])])


def packed(folder: Path, name: str = NAME) -> Path:
    return folder / f"{name}_v{__version__}" / name


def metadata_of(bundle: Path) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())
