# SPDX-License-Identifier: Apache-2.0
import importlib.util
import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import absl.logging
import numpy as np
import pytest
import torch

from unetv2_monai import UNetV2

from .data.folders import write_image, write_volume
from .support.workflow import DEFAULT_BACKBONE, TINY, TRAIN, read_table, run  # noqa: F401 - others import it from here

ROOT = Path(__file__).parents[1]
# where a test reads logging.conf under capsys, TensorBoard's handler would close the stream of the whole run
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images, from the folder that UNETV2_TEST_DATA names; tests that need them skip where it does not exist."""
    folder = Path(os.environ.get("UNETV2_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set UNETV2_TEST_DATA to their folder")
    return folder


def draw_pair(folder: Path, name: str, width: int, height: int, ending: str = "png", seed: int = 0) -> None:
    """A bright disc on a dark ground below ``folder/images``, and its 0/255 mask below ``folder/masks``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    mask = np.hypot(x - rng.uniform(0.3, 0.7) * width, y - rng.uniform(0.3, 0.7) * height) < 0.25 * min(width, height)
    image = rng.integers(20, 60, (height, width, 3)) + 150 * mask[..., None]
    write_image(folder / "images" / f"{name}.{ending}", image.astype(np.uint8))
    write_image(folder / "masks" / f"{name}.png", mask)


def draw_pairs(folder: Path, count: int, name: str = "case", width: int = 60, height: int = 48) -> None:
    """Pairs of different discs: ``case_0.png`` and so on."""
    for index in range(count):
        draw_pair(folder, f"{name}_{index}", width, height, seed=index)


def draw_volume(folder: Path, name: str, values: np.ndarray, label: np.ndarray, affine: np.ndarray) -> None:
    """A volume below ``folder/imagesTr``, and its label below ``folder/labelsTr``."""
    write_volume(folder / "imagesTr" / f"{name}.nii.gz", values, affine)
    write_volume(folder / "labelsTr" / f"{name}.nii.gz", label.astype(np.uint8), affine)


def draw_boxes(folder: Path, count: int, affine: np.ndarray) -> None:
    """Volumes ``v0`` and so on, each wider than the one before, with two touching boxes of the classes 1 and 2."""
    rng = np.random.default_rng(0)
    for index in range(count):
        label = np.zeros((18 + index, 21, 17))
        label[3:9, 4:12, 3:9], label[9:14, 8:16, 6:14] = 1, 2
        values = rng.normal(0, 5, label.shape) + 60 * label
        draw_volume(folder, f"v{index}", values.astype(np.float32), label, affine)


@pytest.fixture
def pairs(tmp_path) -> Path:
    """A plain folder of six pairs of different sizes."""
    folder = tmp_path / "pairs"
    for index in range(6):
        draw_pair(folder, f"case_{index}", 60 + 4 * index, 48, "jpg" if index % 2 else "png", seed=index)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Data of six pairs, and the output folder of two epochs of training on them."""
    folder = tmp_path_factory.mktemp("trained")
    draw_pairs(folder / "data", 6)
    run(TRAIN, "training", dataset_dir=str(folder / "data"), output_dir=str(folder / "out"), max_epochs=2, **TINY)
    return folder / "data", folder / "out"


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Path:
    """What scripts/package_bundle.py makes of random weights: the folder with the zip and the unpacked bundle."""
    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE).state_dict(), folder / "model.pt")
    script("package_bundle").main(["--checkpoint", str(folder / "model.pt"), "--output_dir", str(folder), "--no_onnx"])
    return folder


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory) -> Path:
    """The packed bundle, unzipped elsewhere."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (archive,) = package.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    (bundle,) = folder.iterdir()
    return bundle


def script(name: str) -> ModuleType:
    """A script of ``scripts/`` as a module, whose ``main`` takes a command line: importing torch anew takes seconds."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module
