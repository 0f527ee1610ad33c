# SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Sequence
from unittest.mock import Mock

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from unetv2_monai import InputError, UNetV2
from unetv2_monai.networks import build_encoder, prune_unused

from ..support.workflow import cases, refusal

FAST = ["pvt_v2_b0", "tf_efficientnet_lite0", "resnet18", "efficientnet_b0", "mobilenetv4_conv_small"]
FAST += ["convnextv2_atto", "swin_tiny_patch4_window7_224"]
SLOW = ["pvt_v2_b2", "pvt_v2_b2_li", "hiera_tiny_224", "edgenext_xx_small", "regnety_002", "tf_efficientnetv2_b0"]
ARGUMENTS = {"swin_tiny_patch4_window7_224": {"strict_img_size": False}, "hiera_tiny_224": {"img_size": 96}}


@pytest.mark.parametrize("backbone", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_timm_backbones(backbone):
    """Channels and strides are those of the features, and the whole network works and learns with them."""
    net = UNetV2(2, 3, 1, backbone, channels=8, deep_supervision=True, backbone_args=ARGUMENTS.get(backbone))
    assert net.encoder.strides == (4, 8, 16, 32)
    for feature, channels, size in zip(net.encoder(torch.rand(1, 3, 96, 96)), net.encoder.channels, (24, 12, 6, 3)):
        assert feature.shape == (1, channels, size, size)
    heads = net(torch.rand(2, 3, 96, 96))
    assert [tuple(head.shape[2:]) for head in heads] == [(96 // s,) * 2 for s in (1, 2, 4, 8)]
    sum(head.sum() for head in heads).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100"])
def test_same_padding_is_constant(backbone):
    """At multiples of 32 the features are bit for bit those of timm's padding at run time, whose weights fit."""
    torch.manual_seed(3)
    reference = timm.create_model(backbone, features_only=True).eval()
    encoder = build_encoder(backbone, out_indices=(0, 1, 2, 3, 4)).eval()
    assert any(type(module).__name__ == "Conv2dSame" for module in reference.modules())
    assert not any(type(module).__name__ == "Conv2dSame" for module in encoder.modules())
    encoder.model.load_state_dict(reference.state_dict())
    with torch.no_grad():
        for size in [(64, 64), (96, 160)]:
            x = torch.rand(1, 3, *size)
            for ours, theirs in zip(encoder(x), reference(x), strict=True):
                assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("out_indices", "strides"), [((0, 1, 2, 3, 4), (2, 4, 8, 16, 32)), ((1, 2, 3), (4, 8, 16)), ((0, 2, 4), (2, 8, 32))]
)
def test_three_to_five_levels(out_indices, strides):
    """The output has the input's size, whatever the first stride."""
    net = UNetV2(2, 3, 2, "resnet18", channels=8, out_indices=out_indices, deep_supervision=True)
    assert net.encoder.strides == strides
    heads = net(torch.rand(2, 3, 64, 96))
    assert [tuple(h.shape) for h in heads] == [(2, 2, 64 * strides[0] // s, 96 * strides[0] // s) for s in strides]


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (50, 64)), (3, (35, 51, 36))])
@pytest.mark.parametrize("backbone", ["monai:resnet10", "monai:resnet50", "monai:efficientnet-b0"])
def test_monai_backbones(spatial_dims, size, backbone):
    net = UNetV2(spatial_dims, 1, 3, backbone, channels=8, out_indices=(0, 1, 2, 3), deep_supervision=True)
    assert net.encoder.strides == (2, 4, 8, 16)
    heads = net(torch.rand(1, 1, *size))
    for head, shrink in zip(heads, (1, 2, 4, 8)):
        assert head.shape == (1, 3, *(-(-n // shrink) for n in size))
    sum(head.sum() for head in heads).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []  # layer4, the classifier are gone
    scripted, x = torch.jit.script(net.eval()), torch.rand(1, 1, *size)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), net(x))


class Pyramid(nn.Module):
    """A user's own encoder, with a layer that its features do not need."""

    def __init__(self, strides: Sequence = (2, 2)) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, strides[0], padding=1)
        self.second = nn.Conv2d(6, 10, 3, strides[1], padding=1)
        self.classifier = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(x)
        return [first, self.second(first)]


def test_own_module_is_used_as_it_is():
    """Also its statistics, its mode and frozen and unused layers: it is measured, not changed."""
    model = nn.Sequential(nn.BatchNorm2d(3), Pyramid().eval())
    model[1].first.requires_grad_(False)
    layers, before = list(model.modules()), {key: value.clone() for key, value in model.state_dict().items()}
    net = UNetV2(2, 3, 1, model, channels=8)
    assert (net.encoder.channels, net.encoder.strides) == ((6, 10), (2, 4))
    assert list(model.modules()) == layers
    assert [layer.training for layer in layers] == [True, True, False, False, False, False]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["1.first.weight", "1.first.bias"]
    assert net.eval()(torch.rand(1, 3, 30, 41)).shape == (1, 1, 30, 41)


@pytest.mark.parametrize(("out_indices", "kept"), [(None, ["first", "second"]), ([0], ["first"])])
def test_unused_layers_are_pruned(out_indices, kept):
    model = Pyramid().requires_grad_(False)  # a frozen layer is not an unused one
    first = model.first.weight
    prune_unused(model, 2, 3, out_indices)
    assert sorted(model.state_dict()) == [f"{layer}.{part}" for layer in kept for part in ("bias", "weight")]
    assert model.first.weight is first
    assert not first.requires_grad


@pytest.mark.parametrize(("backbone", "arguments", "message"), cases("networks", "backbones"))
def test_impossible_backbones(backbone, arguments, message):
    with pytest.raises(InputError, match=message):
        build_encoder(backbone if isinstance(backbone, str) else Pyramid(backbone), **arguments)


def official_pvt() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A pvt_v2_b0 classifier's weights in timm's names, and the same in those of the PVT authors."""
    torch.manual_seed(1)
    weights = timm.create_model("pvt_v2_b0").state_dict()
    official = {}
    for key, value in weights.items():
        key = key.replace("patch_embed.", "patch_embed1.", 1) if key.startswith("patch_embed.") else key
        if key.startswith("stages."):
            _, stage, part, rest = key.split(".", 3)
            name = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}[part]
            key = f"{name}{int(stage) + 1}.{rest.replace('mlp.dwconv.', 'mlp.dwconv.dwconv.')}"
        official[key] = value
    return weights, official


@pytest.mark.parametrize("layout", ["timm", "official", "nested"])
def test_pretrained_file_of_pvt(layout, tmp_path, caplog):
    weights, official = official_pvt()
    path = tmp_path / "pvt.pth"
    torch.save({"timm": weights, "official": official, "nested": {"state_dict": official}}[layout], path)
    with caplog.at_level(logging.INFO):
        encoder = build_encoder("pvt_v2_b0", pretrained=str(path))
    assert "2 not needed" in caplog.text  # the classifier's weight and bias
    reference = timm.create_model("pvt_v2_b0")
    reference.load_state_dict(weights)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = encoder.eval()(x)
        expected = reference.eval().patch_embed(x)
        for ours, stage in zip(features, reference.stages):
            expected = stage(expected)
            torch.testing.assert_close(ours, expected)


def test_other_pretrained_files(tmp_path):
    """Safetensors for grey images, and MONAI's own names."""
    weights = timm.create_model("resnet18").state_dict()
    save_file(weights, tmp_path / "resnet.safetensors")
    encoder = build_encoder("resnet18", in_channels=1, pretrained=str(tmp_path / "resnet.safetensors"))
    torch.testing.assert_close(encoder.model.conv1.weight, weights["conv1.weight"].sum(dim=1, keepdim=True))
    torch.testing.assert_close(encoder.model.layer3[1].conv2.weight, weights["layer3.1.conv2.weight"])
    source = build_encoder("monai:resnet10", 3, 1, out_indices=(0, 1, 2, 3, 4))
    torch.save(source.model.state_dict(), tmp_path / "resnet.pt")
    loaded = build_encoder("monai:resnet10", 3, 1, pretrained=str(tmp_path / "resnet.pt"))
    torch.testing.assert_close(loaded.model.layer4[0].conv1.weight, source.model.layer4[0].conv1.weight)


def test_pretrained_file_is_all_or_nothing(tmp_path):
    weights, _ = official_pvt()
    path = tmp_path / "pvt.pth"
    torch.save({key: value for key, value in weights.items() if "stages.2" not in key}, path)
    message = refusal(build_encoder, "pvt_v2_b0", pretrained=str(path))
    assert "pvt.pth does not hold the weights of this backbone" in message
    assert "such as stages_2" in message
    torch.save(timm.create_model("resnet18").state_dict(), path)
    assert "does not hold the weights of this backbone" in refusal(build_encoder, "pvt_v2_b0", pretrained=str(path))
    path.write_bytes(b"nothing")
    assert "holds no PyTorch weights" in refusal(build_encoder, "pvt_v2_b0", pretrained=str(path))


@pytest.mark.parametrize(
    ("name", "size"), [("hiera_tiny_224", (96, 128)), ("visformer_tiny", (96, 96)), ("gcvit_xxtiny", (96, 96))]
)
def test_backbones_of_one_size_say_what_to_set(name, size):
    net, image = UNetV2(backbone=name, channels=8).eval(), torch.rand(1, 3, 90, size[1])  # padded to a multiple of 32
    message = refusal(net, image)
    assert f"{name!r} does not take images of {size[0]} x {size[1]} (" in message
    assert f"Set backbone_args to {{'img_size': {[*size]}}}" in message
    with pytest.raises(RuntimeError, match="to have 3 channels"):  # another fault is left as it is
        net(torch.rand(1, 1, 224, 224))
    sized = UNetV2(backbone=name, channels=8, backbone_args={"img_size": size}).eval()
    assert sized(image).shape == (1, 1, 90, size[1])


def test_weights_that_cannot_be_downloaded(monkeypatch):
    monkeypatch.setattr("timm.create_model", Mock(side_effect=FileNotFoundError("no connection")))
    message = refusal(build_encoder, "pvt_v2_b0", pretrained=True)
    assert "'pvt_v2_b0' could not be downloaded" in message
    assert ": pretrained must be False or" in message
