# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch
from torch import nn

from unetv2_monai.networks.weights import imagenet_weights, load_weights, options_of, read_weights, with_options

from ..support.workflow import refusal


@pytest.mark.parametrize("backbone", ["pvt_v2_b2", "monai:resnet10", nn.Flatten()])
def test_backbones_of_which_the_bundle_has_no_weights(backbone, caplog):
    with caplog.at_level(logging.INFO):
        assert imagenet_weights(backbone) is False
    name = "Flatten" if isinstance(backbone, nn.Flatten) else backbone
    assert f"The encoder {name} starts from random weights: the bundle has no ImageNet weights of it" in caplog.text


def test_weights_of_other_dimensions(tmp_path):
    images, volumes = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.Conv3d(1, 2, 3))
    for trained, network, kinds in ((volumes, images, "volumes, images"), (images, volumes, "images, volumes")):
        torch.save(trained.state_dict(), tmp_path / "model.pt")
        message = refusal(read_weights, tmp_path / "model.pt", network)
        assert message.endswith("; they are for {}, the network is for {}.".format(*kinds.split(", ")))


OPTIONS = {"backbone": "resnet10t", "image_size": [40, 56, 40], "spacing": None, "window_level": 40.5, "mr": True}


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_options_of_a_file(tmp_path):
    """Plain PyTorch loads it; monai.bundle does in test_entries.py, MONAI's CheckpointLoader in test_carried.py."""
    network, loaded, path = small(1), small(2), tmp_path / "model.pt"
    torch.save(with_options(network.state_dict(), OPTIONS), path)
    content = torch.load(path, weights_only=True)
    loaded.load_state_dict(content, strict=True)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in network.state_dict().items())
    assert options_of(content) == options_of(read_weights(path, network)) == OPTIONS
    assert list(content) == list(network.state_dict())
    assert content._metadata.items() > network.state_dict()._metadata.items()  # the versions of the modules stay
    assert options_of(with_options(content, {"backbone": "other"})) == {"backbone": "other"}
    assert options_of(content) == OPTIONS  # not changed
    torch.save({"model": content, "epoch": 3}, path)
    assert options_of(read_weights(path)) == OPTIONS


def test_files_without_options(tmp_path):
    for state_dict in (small(1).state_dict(), dict(small(1).state_dict())):
        torch.save(state_dict, tmp_path / "model.pt")
        assert options_of(read_weights(tmp_path / "model.pt")) == {}
        assert options_of(with_options(state_dict, {"image_size": (8, 8)})) == {"image_size": [8, 8]}


def of_lightning(net: nn.Module) -> dict:
    values = {f"net.{name}": value for name, value in net.state_dict().items()}
    return {"pytorch-lightning_version": "2.6.0", "state_dict": values}


@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda net: {"state_dict": net.state_dict(), "epoch": 3}, "in the entry ['state_dict']."),
        (lambda net: nn.DataParallel(net).state_dict(), "under names that begin with 'module.'."),
        (lambda net: torch.compile(net).state_dict(), "under names that begin with '_orig_mod.'."),
        (lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(), "under names that begin with 'module.'."),
        (of_lightning, "in the entry ['state_dict'] and under names that begin with 'net.'."),
    ],
)
def test_wrapped_weights_are_named_with_the_command_that_unwraps_them(wrap, where, tmp_path, monkeypatch):
    network, loaded = small(1), small(2)
    monkeypatch.chdir(tmp_path)
    torch.save(wrap(network), "wrapped.pt")
    message = refusal(read_weights, "wrapped.pt")
    assert f"wrapped.pt holds its weights {where}" in message
    exec(message.partition('python -c "')[2].removesuffix('"'), {})
    load_weights(loaded, "plain.pt")
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in network.state_dict().items())


def test_files_that_hold_more_or_less_than_weights(tmp_path):
    for content, text in (
        (small(1), "a Python object, torch.nn.modules.container.Sequential, which could run code"),
        ([1, 2], "holds no PyTorch weights, but list without tensors"),
        ({"epoch": 3}, "holds no PyTorch weights, but dict without tensors"),
    ):
        torch.save(content, tmp_path / "file.pt")
        assert text in refusal(read_weights, tmp_path / "file.pt")
