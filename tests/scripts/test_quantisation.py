# SPDX-License-Identifier: Apache-2.0
"""int8: what stays in float32, what survives, and which files and folders are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from common import exports
from common.exports import FORMATS, Job, describe, export, images_of, inference_config
from common.quantisation import LEAST_IMAGES, float_operations, quantise

from unetv2_monai import InputError, UNetV2, list_images
from unetv2_monai.core.description import KEY

from ..conftest import draw_pairs, script
from ..support.exported import description, write_bright

pytest.importorskip("openvino")

import openvino
from openvino import opset13 as ops


def small_model() -> Any:
    """Five convolutions of an encoder, two of SDI, their product, a gate and a head, named as an export names them."""
    rng = np.random.default_rng(0)

    def conv(x: Any, channels: int, source: int, weight: str) -> Any:
        values = rng.standard_normal((channels, source, 3, 3)).astype(np.float32) / np.float32(3 * source**0.5)
        one = ops.convolution(x, ops.constant(values, name=weight), [1, 1], [1, 1], [1, 1], [1, 1])
        one.set_friendly_name(f"of {weight}")
        return one

    image = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    x: Any = image
    for index in range(5):
        x = ops.relu(conv(x, 4, 4 if index else 3, f"encoder.{index}.weight"))
    x = ops.multiply(x, ops.sigmoid(conv(x, 4, 4, "gates.0.weight"), name="gate"), name="gated")
    fused = ops.multiply(conv(x, 4, 4, "sdi.0.weight"), conv(x, 4, 4, "sdi.1.weight"), name="product")
    summed = ops.add(fused, x, name="sum")
    model = openvino.Model([ops.result(conv(summed, 1, 4, "heads.0.weight"))], [image])
    model.set_rt_info(description().to_json(), ["framework", KEY])
    return model


def test_what_stays_float():
    early = [f"of encoder.{index}.weight" for index in (0, 1, 2)]
    others = ["of gates.0.weight", "gate", "gated", "product", "sum", "of heads.0.weight"]
    assert sorted(float_operations(small_model())) == sorted(early + others)


@pytest.mark.parametrize(("linear", "kept"), [(True, 5), (False, 3)])
def test_depthwise_layers_beside_linear_ones_stay_float(linear, kept):
    """PVTv2 gives no masks otherwise; without linear layers the first three convolutions do."""
    image = ops.parameter([-1, 4, 8, 8], np.float32, name="image")
    x: Any = image
    if linear:
        x = ops.matmul(x, ops.constant(np.ones((8, 8), np.float32), name="linear"), False, False)
    for index in range(5):
        weight = ops.constant(np.ones((4, 1, 1, 3, 3), np.float32), name=f"depthwise.{index}.weight")
        x = ops.group_convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        x.set_friendly_name(str(index))
    assert float_operations(openvino.Model([ops.result(x)], [image])) == [str(index) for index in range(kept)]


def test_quantised_network():
    """The encoder's last two convolutions and SDI's are in int8; the description survives; outputs stay close."""
    pytest.importorskip("nncf")
    rng = np.random.default_rng(1)
    images = [torch.from_numpy(rng.standard_normal((1, 3, 16, 16)).astype(np.float32)) for _ in range(LEAST_IMAGES)]
    found = quantise(small_model(), images)
    scaled = [name for one in found.get_ops() if "/fq_weights" in (name := one.get_friendly_name())]
    assert {name.split("/")[0].removeprefix("of ") for name in scaled} == {
        "encoder.3.weight", "encoder.4.weight", "sdi.0.weight", "sdi.1.weight",
    }  # fmt: skip
    assert found.get_rt_info(["framework", KEY]).astype(str) == description().to_json()
    results = [
        openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images[0].numpy())[0]
        for model in (small_model(), found)
    ]
    assert 0.95 < np.corrcoef(results[0].ravel(), results[1].ravel())[0, 1] < 0.99999


@pytest.mark.parametrize(
    ("count", "message"),
    [(None, "there is no folder"), (0, "holds no image"), (3, f"has 3 images, int8 takes at least {LEAST_IMAGES}")],
)
def test_folders_that_are_refused(count, message, tmp_path):
    torch.save(UNetV2(backbone="pvt_v2_b0").state_dict(), tmp_path / "model.pt")
    folder = tmp_path / "train"
    if count is not None:
        folder.mkdir()
        draw_pairs(folder, count)
    command = ["--checkpoint", str(tmp_path / "model.pt"), "--formats", "openvino_int8"]
    options = ["--set", "backbone=pvt_v2_b0", "image_size=32", "--calibrate", str(folder)]
    with pytest.raises(InputError, match=message) as info:
        script("export").main([*command, *options])
    assert str(folder) in str(info.value)
    assert "dataset_dir" not in str(info.value)
    assert not [*tmp_path.glob("*.xml")]
    with pytest.raises(InputError, match="by --calibrate"):
        script("export").main(command)


@pytest.mark.parametrize("least", [0.1, 1.0])
def test_other_masks_are_refused(least, monkeypatch, tmp_path):
    """A file that marks bright pixels instead of none: a Dice of 0 with the network's masks."""

    def export_int8() -> None:
        export(write, Job(network, options, describe(options), bright), tmp_path, bright)

    options = {"backbone": "pvt_v2_b0"}
    write = FORMATS["openvino_int8"]._replace(export=lambda job, made: str(write_bright(made, job.description)))
    monkeypatch.setattr(exports, "LEAST_DICE", least)
    network = UNetV2(backbone="pvt_v2_b0").eval()
    torch.nn.init.constant_(network.heads[0].bias, -100.0)
    bright = [torch.full((1, 3, 32, 32), 2.0)]
    with pytest.raises(InputError, match=rf"Dice of 0\.000 with the network's, below {least}"):
        export_int8()
    assert list(tmp_path.iterdir()) == []  # nothing that could be run
    for name in ("model_int8.bin", "model_int8.xml"):
        (tmp_path / name).write_text("an export of before")
    with pytest.raises(InputError, match="the one of before stays"):
        export_int8()
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["an export of before"] * 2
    monkeypatch.setattr(exports, "LEAST_DICE", 0.0)
    export_int8()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model_int8.bin", "model_int8.xml"]
    assert not any(b"an export of before" in path.read_bytes() for path in tmp_path.iterdir())


def test_images_are_spread_over_the_folder(pairs):
    parser, items = inference_config({"image_size": 32}), list_images(str(pairs))
    every, some = images_of(items, parser), images_of(items, parser, 3)
    assert (len(every), len(some)) == (6, 3)
    assert all(torch.equal(one, every[index]) for one, index in zip(some, (0, 2, 4)))
