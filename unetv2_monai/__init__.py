# SPDX-License-Identifier: Apache-2.0
"""This package holds U-Net v2 for MONAI: the network, and the parts of its bundle that no library provides.

``__init__.pyi`` lists the names. One is imported when it is first used, so that ``unetv2_monai.core`` runs where torch
is not installed.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

STUB = Path(__file__).with_name("__init__.pyi").read_text()
HOME = {name: module for module, name in re.findall(r"^from \.(\S+) import (\w+)", STUB, re.MULTILINE)}

__all__ = list(HOME)


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *HOME])
