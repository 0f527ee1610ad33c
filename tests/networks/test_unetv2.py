# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from monai.networks.utils import eval_mode

from unetv2_monai import UNetV2, convert_released_state_dict
from unetv2_monai.released import released_key

from .. import golden
from ..support.workflow import cases

SMALL = {"backbone": "pvt_v2_b0", "channels": 16}


def loud(net: UNetV2) -> UNetV2:
    """Weights large enough that outputs depend visibly on the input."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5, generator=generator)
    return net


def released(n_classes: int) -> UNetV2:
    """Our network with the seeded weights of the released one; all heads, layers in eval mode."""
    net = UNetV2(out_channels=n_classes, deep_supervision=True)
    weights = {f"module.{key}": value for key, value in golden.released_state_dict(n_classes).items()}
    net.load_state_dict(convert_released_state_dict(weights), strict=True)  # one layer that is not needed is dropped
    net.eval().training = True  # the list of heads, while every layer stays in eval mode
    return net


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case["name"])
def test_same_outputs_as_the_released_network(case, memory_format):
    x = golden.image(case["seed"], (case["batch"], 3, case["size"], case["size"]))
    with torch.no_grad():
        heads = released(case["n_classes"]).to(memory_format=memory_format)(x)
    assert len(heads) == 4
    for head, expected in zip(heads, golden.outputs(case["name"])):
        np.testing.assert_allclose(head.numpy(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", [c for c in golden.CASES if "loss" in c], ids=lambda case: case["name"])
def test_same_gradients_as_the_released_network(case):
    net = released(case["n_classes"])
    heads = net(golden.image(case["seed"], (case["batch"], 3, case["size"], case["size"])))
    loss = sum((head**2).mean() for head in heads)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-3)
    ours = {name: parameter.grad.norm().item() for name, parameter in net.named_parameters()}
    expected = {released_key(key): norm for key, norm in case["grad_norm"].items()}
    assert ours == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("height", "width"),
    [(64, 512), (97, 131), (225, 193), *(pytest.param(n, n, marks=pytest.mark.slow) for n in (224, 352))],
)
@pytest.mark.parametrize(("batch", "in_channels", "out_channels"), [(1, 3, 1), (2, 1, 3), (2, 3, 1)])
def test_shapes(height, width, batch, in_channels, out_channels):
    net = UNetV2(2, in_channels, out_channels, **SMALL, deep_supervision=True)
    x = torch.rand(batch, in_channels, height, width)
    with eval_mode(net):
        assert net(x).shape == (batch, out_channels, height, width)
    net.train()
    shapes = [tuple(head.shape) for head in net(x)]
    assert shapes == [(batch, out_channels, -(-height // s), -(-width // s)) for s in (1, 2, 4, 8)]


def test_padding_changes_nothing_that_was_given():
    """A size that is no multiple of 32 equals the same image with zeros to the right and below."""
    net = loud(UNetV2(**SMALL)).eval()
    x = torch.rand(1, 3, 70, 90)
    padded = torch.zeros(1, 3, 96, 96)
    padded[:, :, :70, :90] = x
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(padded)[:, :, :70, :90])


def test_dropout_acts_in_training_only():
    net = loud(UNetV2(**SMALL, dropout=0.5)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        net.dropout.train()
        assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize("switches", cases("networks", "switches"), ids=str)
def test_every_switch_trains_a_step_and_scripts(switches):
    net = UNetV2(**{**SMALL, "deep_supervision": True, **switches})
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    x = torch.rand(2, 3, 64, 96)
    before = sum(head.square().mean() for head in net(x))
    before.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None and p.requires_grad] == []
    optimizer.step()
    assert sum(head.square().mean() for head in net(x)) < before
    scripted = torch.jit.script(net.eval())
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), net(x), rtol=1e-4, atol=1e-4)


def test_order_of_the_attentions():
    first, second = (loud(UNetV2(**SMALL, attention=f"{kind}_first")).gates[0] for kind in ("channel", "spatial"))
    assert [type(part).__name__ for part in first] == ["ChannelAttention", "SpatialAttention"]
    second[1].load_state_dict(first[0].state_dict())
    second[0].load_state_dict(first[1].state_dict())
    x = torch.randn(1, 32, 8, 8)
    torch.testing.assert_close(second(x), first[0](first[1](x)))
    assert not torch.allclose(second(x), first(x))


def test_plain_skips_when_sdi_is_off():
    """Then the finest skip goes to the finest level of the decoder only."""
    net = loud(UNetV2(**SMALL, sdi=False, deep_supervision=True)).eval()
    net.training = True  # all heads
    x = torch.rand(1, 3, 64, 64)
    before = net(x)
    net.reduce[0].conv.weight.data.zero_()
    after = net(x)
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(old, new) for old, new in zip(before[1:], after[1:]))


def test_frozen_encoder():
    net = UNetV2(2, 3, 1, "resnet18", channels=8, freeze_encoder=True)  # as made, and below switched to training
    before = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    for _ in range(2):
        net(torch.rand(2, 3, 64, 64)).sum().backward()
        assert all(torch.equal(value, before[key]) for key, value in net.encoder.state_dict().items())
        assert all(p.grad is None for p in net.encoder.parameters())
        net.train()
    assert net.heads[0].weight.grad is not None
    assert net.reduce[0].training


def test_gradient_checkpointing_changes_no_gradient():
    x = torch.rand(2, 3, 64, 64)
    plain, saving = (loud(UNetV2(**SMALL, grad_checkpointing=value)) for value in (False, True))
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        net(x).square().mean().backward()
    for (name, ours), theirs in zip(saving.named_parameters(), plain.parameters()):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


DYNAMIC = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)


def assert_exported(exported, net):
    """For several numbers and sizes of images."""
    for shape in ((1, 3, 64, 64), (3, 3, 97, 131), (1, 3, 64, 512)):
        x = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(torch.as_tensor(exported(x)), net(x), rtol=1e-4, atol=1e-4)


def test_torch_export_with_dynamic_batch_and_size():
    net = loud(UNetV2(**SMALL)).eval()
    program = torch.export.export(net, (torch.rand(2, 3, 97, 75),), dynamic_shapes=(DYNAMIC,))
    assert_exported(program.module(), net)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_torchscript(deep_supervision, tmp_path):
    net = loud(UNetV2(**SMALL, deep_supervision=deep_supervision)).eval()
    torch.jit.save(torch.jit.script(net), tmp_path / "net.ts")
    loaded = torch.jit.load(tmp_path / "net.ts")
    assert_exported(loaded, net)
    found = loaded.train()(torch.rand(2, 3, 64, 64))
    assert isinstance(found, list) == deep_supervision
    assert (found[0] if deep_supervision else found).shape == (2, 1, 64, 64)


@pytest.mark.parametrize(("arguments", "message"), cases("networks", "refused"))
def test_wrong_arguments_say_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetV2(**{**SMALL, **arguments})
