# SPDX-License-Identifier: Apache-2.0
"""Read the bundle's configs with overlays and options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from unetv2_monai import bundle_dir
from unetv2_monai.bundle.options import full_size

ROOT = Path(__file__).resolve().parents[2]  # of the repository; in a wheel, the package
BUNDLE = bundle_dir()
CONFIGS = BUNDLE / "configs"


def read_config(files: Sequence[str], options: Mapping[str, Any] | None = None, folder: Path = CONFIGS) -> ConfigParser:
    """Read a config and its overlays in ``folder``, and apply options last. No object is built."""
    parser = ConfigParser()
    parser.read_config([str(folder / name) for name in files])
    parser.update({"bundle_dir": str(folder.parent), **(options or {})})  # else found only in a running command
    if "image_size" in parser:
        parser["image_size"] = full_size(parser.get())
    return parser
