# SPDX-License-Identifier: Apache-2.0
"""The core of the package without torch, the names of the package, and the size of files."""

import subprocess
import sys
from pathlib import Path

import unetv2_monai

from .conftest import ROOT

CORE = sorted(path.stem for path in Path(unetv2_monai.__file__).parent.glob("core/*.py"))
WITHOUT_TORCH = """
import importlib, sys
for name in ("torch", "monai", "timm", "scipy", "ignite"):
    sys.modules[name] = None  # an import of it fails
import unetv2_monai
for name in sys.argv[1:]:
    importlib.import_module("unetv2_monai.core." + name)
print(unetv2_monai.to_rgb, unetv2_monai.InputError)
"""


def test_the_core_is_importable_without_torch():
    assert len(CORE) > 5
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *CORE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "to_rgb" in done.stdout


def test_every_name_is_found():
    assert {"UNetV2", "SDI", "prepare"} <= {*unetv2_monai.__all__}
    assert all(callable(getattr(unetv2_monai, name)) for name in unetv2_monai.__all__)


def test_no_file_is_long():
    paths = [path for folder in ("unetv2_monai", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    paths += (ROOT / "bundle" / "configs").rglob("*.yaml")
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > 400} == {}
