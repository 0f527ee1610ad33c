# SPDX-License-Identifier: Apache-2.0
"""Flips at test time with whatever passes images through the network: the whole image, windows, slabs."""

from itertools import combinations

import nibabel
import numpy as np
import pytest
import torch

from unetv2_monai import FlipInferer

from ..data.folders import write_volume
from ..support.workflow import INFERENCE, cases, configs, overlays, parsed, run

TTA, SLABS, BF16 = "options/inference_tta", "options/inference_slabs", "options/inference_bf16"
VOLUMES, WINDOWS = "recipes/volumes", "options/sliding"


@pytest.mark.parametrize(("names", "inner", "axes"), cases("inferers", "flips"))
def test_flips_are_around_what_is_there(names, inner, axes):
    key = "evaluator#inferer" if "inference" in names.split() else "validate#evaluator#inferer"
    inferer = parsed(configs(names)).get_parsed_content(key)
    assert isinstance(inferer, FlipInferer)
    assert type(inferer.inferer).__name__ == inner
    assert inferer.axes == axes


@pytest.mark.parametrize("names", [[], [VOLUMES], [WINDOWS], [VOLUMES, SLABS, TTA], [TTA]])
def test_bfloat16_goes_with_every_inferer(names):
    """It replaces the network, not the inferer, so that the order of the files does not matter."""
    expected = parsed([*INFERENCE, *overlays(*names)])["evaluator"]["inferer"]
    for order in ([BF16, *names], [*names, BF16]):
        found = parsed([*INFERENCE, *overlays(*order)])["evaluator"]
        assert found["inferer"] == expected
        assert found["network"]["_target_"] == "unetv2_monai.FunctionNetwork"


@pytest.mark.parametrize("name", ["onnx", "openvino", "export"])
def test_runtimes_take_windows(name):
    """What stands for the network is called for each window."""
    sizes = []

    def record(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape[2:]))
        return x[:, :1]

    parser = parsed([*INFERENCE, *overlays(WINDOWS, f"options/inference_{name}")], bundle_dir=".")
    assert parser["network"]["_target_"] == f"unetv2_monai.{'OpenVINO' if name == 'openvino' else 'Function'}Network"
    parser["network"] = {"_target_": "unetv2_monai.FunctionNetwork", "function": record}
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


@pytest.mark.parametrize(("names", "options", "axes"), cases("inferers", "flipped_volumes"))
def test_labels_of_flipped_volumes(names, options, axes, tmp_path):
    """A volume of one window, stored left to right and turned: flipped along left and right of the patient."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 3, "padding": 1}
    values = np.random.default_rng(0).normal(5, 3, (16, 18, 20)).astype(np.float32)  # right, anterior, superior
    turned = np.array([[0, -1.0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # axes: superior, left, anterior
    write_volume(tmp_path / "in" / "one.nii.gz", values[::-1].transpose(2, 0, 1), turned)
    run(
        configs(names), "inference", dataset_dir=tmp_path / "in", image_size=[16, 18, 20],
        output_dir=tmp_path / "out", checkpoint=tmp_path / "model.pt", network_def=definition, **options,
    )  # fmt: skip
    image = torch.from_numpy((values - values.mean()) / values.std())[None]
    found = np.asarray(nibabel.load(tmp_path / "out" / "one.nii.gz").dataobj).transpose(1, 2, 0)[::-1]
    assert (found == mean_of_flips(image, network, axes).argmax(0).numpy()).mean() > 0.999
    assert (found == mean_of_flips(image, network, ()).argmax(0).numpy()).mean() < 0.95
