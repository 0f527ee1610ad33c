# SPDX-License-Identifier: Apache-2.0
"""Flips at test time with whatever passes images through the network: the whole image, windows, slabs."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from PIL import Image

from unetv2_monai import FlipInferer, InputError, PlainInferer, SlabInferer

from ..support.workflow import CONFIGS, EVALUATE, INFERENCE, TRAIN, root_error, run

TTA, SLABS = "options/inference_tta", "options/inference_slabs"
VOLUMES, WINDOWS = "recipes/volumes", "options/sliding"


def overlays(*names: str) -> list[str]:
    return [str(CONFIGS / f"{name}.yaml") for name in names]


@pytest.mark.parametrize(
    ("files", "key", "inner", "axes"),
    [
        ([*INFERENCE, *overlays(TTA)], "evaluator#inferer", PlainInferer, None),
        ([*INFERENCE, *overlays(WINDOWS, TTA)], "evaluator#inferer", SlidingWindowInferer, None),
        ([*INFERENCE, *overlays(TTA, WINDOWS)], "evaluator#inferer", SlidingWindowInferer, None),
        ([*INFERENCE, *overlays(VOLUMES, TTA)], "evaluator#inferer", SlidingWindowInferer, [0]),
        ([*INFERENCE, *overlays(VOLUMES, TTA, SLABS)], "evaluator#inferer", SlabInferer, [0]),
        ([*EVALUATE, *overlays("options/tta")], "validate#evaluator#inferer", PlainInferer, None),
        (
            [*TRAIN, *overlays("options/sliding"), EVALUATE[1], *overlays("options/tta")],
            "validate#evaluator#inferer", SlidingWindowInferer, None,
        ),
        (
            [*TRAIN, *overlays("recipes/volumes"), EVALUATE[1], *overlays("options/tta")],
            "validate#evaluator#inferer", SlidingWindowInferer, [0],
        ),
    ],
)  # fmt: skip
def test_flips_are_around_what_is_there(files, key, inner, axes):
    parser = ConfigParser()
    parser.read_config(files)
    inferer = parser.get_parsed_content(key)
    assert isinstance(inferer, FlipInferer)
    assert type(inferer.inferer) is inner
    assert inferer.axes == axes


@pytest.mark.parametrize("names", [[], [VOLUMES], [WINDOWS], [VOLUMES, SLABS, TTA], [TTA]])
@pytest.mark.parametrize("first", [True, False])
def test_bfloat16_goes_with_every_inferer(names, first):
    """It replaces the network, not the inferer, so that the order of the files does not matter."""
    bf16 = ["options/inference_bf16"]
    with_it, without = ConfigParser(), ConfigParser()
    with_it.read_config([*INFERENCE, *overlays(*(bf16 + names if first else names + bf16))])
    without.read_config([*INFERENCE, *overlays(*names)])
    assert with_it["evaluator"]["inferer"] == without["evaluator"]["inferer"]
    assert with_it["evaluator"]["network"]["_target_"] == "unetv2_monai.FunctionNetwork"


@pytest.mark.parametrize("name", ["onnx", "openvino", "export"])
def test_runtimes_take_windows(name):
    """What stands for the network is called for each window."""
    sizes = []

    def record(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape[2:]))
        return x[:, :1]

    parser = ConfigParser()
    parser.read_config([*INFERENCE, *overlays(WINDOWS, f"options/inference_{name}")])
    assert parser["network"]["_target_"] == f"unetv2_monai.{'OpenVINO' if name == 'openvino' else 'Function'}Network"
    parser["network"] = {"_target_": "unetv2_monai.FunctionNetwork", "function": record}
    parser["bundle_dir"] = "."
    parser["imports"] = [line for line in parser["imports"] if "onnxruntime" not in line]
    network, inferer = (parser.get_parsed_content(key) for key in ("network", "evaluator#inferer"))
    image = torch.rand(1, 3, 300, 500)
    assert torch.allclose(inferer(image, network.eval()), image[:, :1], atol=1e-5)
    assert set(sizes) == {(256, 256)}


def mean_of_flips(image: torch.Tensor, network: torch.nn.Module, axes: tuple[int, ...]) -> torch.Tensor:
    """Of an image without batch."""
    subsets = [[1 + axis for axis in chosen] for count in range(len(axes) + 1) for chosen in combinations(axes, count)]
    with torch.no_grad():
        outputs = [network(image.flip(dims)[None])[0].flip(dims) for dims in subsets]
    return torch.stack(outputs).mean(0)


@pytest.mark.parametrize(
    ("names", "options", "axes"),
    [
        ((VOLUMES, TTA), {}, (0,)),
        ((VOLUMES, TTA), {"flip_axes": [0, 1, 2]}, (0, 1, 2)),
        ((VOLUMES, TTA, SLABS), {}, (0,)),
        ((VOLUMES, SLABS, TTA), {"flip_axes": None}, (0, 1, 2)),
        ((VOLUMES, SLABS, "options/inference_bf16", TTA), {"autocast#dtype": "float32"}, (0,)),
    ],
)
def test_labels_of_flipped_volumes(names, options, axes, tmp_path):
    """A volume of one window, stored left to right and turned: flipped along left and right of the patient."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    values = np.random.default_rng(0).normal(5, 3, (16, 18, 20)).astype(np.float32)  # right, anterior, superior
    (tmp_path / "in").mkdir()
    turned = np.array([[0, -1.0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # axes: superior, left, anterior
    nibabel.save(nibabel.Nifti1Image(values[::-1].transpose(2, 0, 1), turned), tmp_path / "in" / "one.nii.gz")
    run(
        [*INFERENCE, *overlays(*names)], "inference", dataset_dir=str(tmp_path / "in"), image_size=[16, 18, 20],
        output_dir=str(tmp_path / "out"), checkpoint=str(tmp_path / "model.pt"), **options,
        network_def={"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 3,
            "padding": 1},
    )  # fmt: skip
    image = torch.from_numpy((values - values.mean()) / values.std())[None]
    found = np.asarray(nibabel.load(tmp_path / "out" / "one.nii.gz").dataobj).transpose(1, 2, 0)[::-1]
    assert (found == mean_of_flips(image, network, axes).argmax(0).numpy()).mean() > 0.999
    assert (found == mean_of_flips(image, network, ()).argmax(0).numpy()).mean() < 0.95


def test_masks_of_flipped_windows(tmp_path):
    """An image of two windows without overlap, each flipped in four ways."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 1, 3, padding=1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "one.png")
    run(
        [*INFERENCE, *overlays(WINDOWS, TTA)], "inference", dataset_dir=str(tmp_path / "in"), image_size=32,
        output_dir=str(tmp_path / "out"), checkpoint=str(tmp_path / "model.pt"), **{"inferer#overlap": 0},
        network_def={"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 3,
            "padding": 1},
    )  # fmt: skip
    mean, std = (torch.tensor(three)[:, None, None] for three in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    image = (torch.from_numpy(pixels).permute(2, 0, 1) - mean) / std
    halves = [mean_of_flips(half, network, (0, 1))[0] >= 0 for half in image.split(32, 2)]
    with Image.open(tmp_path / "out" / "one.png") as mask:
        found = np.asarray(mask) == 255
    assert (found == torch.cat(halves, 1).numpy()).mean() > 0.999


@pytest.mark.parametrize("axes", [[3], [0, 0], "left", [-1], [0.5]])
def test_axes_are_checked(axes, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", "inference", "--flip_axes", str(axes)])
    with pytest.raises(Exception) as info:  # noqa: PT011
        run([*INFERENCE, *overlays(TTA)], "inference", dataset_dir=str(tmp_path), flip_axes=axes)
    error = root_error(info)
    assert isinstance(error, InputError)
    assert str(error).startswith("--flip_axes must be a list of different axes from 0 to 2, or null, got ")
    assert not Path("output").exists()
