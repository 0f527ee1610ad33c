# SPDX-License-Identifier: Apache-2.0
"""The wheel in an environment without this repository, from another folder."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import __version__

from .conftest import ROOT, draw_pairs
from .support.workflow import INFERENCE, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """As ``make wheel`` builds it, with the setuptools that is here."""
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("unetv2_monai", "bundle", "scripts", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)  # the build leaves folders behind
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A new environment that has the wheel, and of this one the packages that the wheel asks for."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(here) + "\n")  # .pth files in those are not read
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    return folder / "bin"


@pytest.fixture
def unetv2(site, tmp_path, monkeypatch):
    """Run the command from a folder of its own; what it printed."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONPATH", None)

    def call(*arguments: object, program: str = "unetv2") -> str:
        command = [site / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return call


def test_contents(wheel):
    """Every file of the package, of the scripts and of the bundle but what runs leave there."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("unetv2_monai/")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    expected = {name for name in tracked if name.startswith("unetv2_monai/")}
    expected |= {f"unetv2_monai/{name}" for name in tracked if name.startswith("scripts/")}
    expected |= {name.replace("bundle/", "unetv2_monai/bundle_files/", 1) for name in tracked if name[:7] == "bundle/"}
    assert names == expected


def test_the_wheel_and_not_the_repository(unetv2, site):
    code = "import unetv2_monai as u; print(u.__file__, u.__version__, u.bundle_dir())"
    file, version, bundle = unetv2("-c", code, program="python").split()
    assert Path(file).is_relative_to(site.parent)
    assert Path(bundle) == Path(file).parent / "bundle_files"
    assert version == __version__
    for name in ("report", "check", "export", "label", "labels", "package"):
        assert "usage:" in unetv2(name, "--help")


def test_segment(unetv2, tmp_path):
    draw_pairs(tmp_path, 2)
    printed = unetv2("segment", "images")
    assert printed.startswith("python -m monai.bundle run inference --config_file ")
    run(INFERENCE, "inference", dataset_dir=tmp_path / "images", output_dir=tmp_path / "expected")
    for path in (tmp_path / "expected").glob("*.png"):
        found = np.asarray(Image.open(tmp_path / "output" / "masks" / path.name))
        np.testing.assert_array_equal(found, np.asarray(Image.open(path)))
