# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from unetv2_monai import SDI
from unetv2_monai.networks import ChannelAttention, SpatialAttention

SIZES = (16, 8, 4)


def identity(sdi: SDI) -> SDI:
    """Let every smoothing convolution pass its input through."""
    for level in sdi.levels:
        for smooth in level.smooth:
            nn.init.dirac_(smooth.weight)
            nn.init.zeros_(smooth.bias)
    return sdi


def constants(*values: float) -> list[torch.Tensor]:
    return [torch.full((1, 2, size, size), value) for size, value in zip(SIZES, values)]


@pytest.mark.parametrize(("fusion", "expected"), [("mul", 2 * 3 * 5.0), ("add", 2 + 3 + 5.0)])
def test_every_level_fuses_all_levels(fusion, expected):
    out = identity(SDI(2, 2, (4, 8, 16), fusion))(constants(2.0, 3.0, 5.0))
    assert [tuple(level.shape) for level in out] == [(1, 2, size, size) for size in SIZES]
    for level in out:
        torch.testing.assert_close(level, torch.full_like(level, expected))


def test_cat_projects_the_concatenation():
    sdi = identity(SDI(2, 2, (4, 8, 16), "cat"))
    for level in sdi.levels:  # output channel 0 takes level 0, channel 1 takes level 2
        nn.init.zeros_(level.project.weight)
        nn.init.zeros_(level.project.bias)
        level.project.weight.data[0, 0] = level.project.weight.data[1, 5] = 1
    for level in sdi(constants(2.0, 3.0, 5.0)):
        torch.testing.assert_close(level[:, 0], torch.full_like(level[:, 0], 2.0))
        torch.testing.assert_close(level[:, 1], torch.full_like(level[:, 1], 5.0))


def test_finer_levels_are_averaged_and_coarser_interpolated_to_the_corners():
    fine = torch.arange(16.0).reshape(1, 1, 4, 4)
    coarse = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    out = identity(SDI(2, 1, (1, 2), "add"))([fine, coarse])
    means = torch.tensor([[2.5, 4.5], [10.5, 12.5]])  # of each 2x2 block of `fine`
    torch.testing.assert_close(out[1], means + coarse)
    ramp = torch.arange(4.0) + 2 * torch.arange(4.0)[:, None]  # aligned corners: 0 to 3 across, 0 to 6 down
    torch.testing.assert_close(out[0], fine + ramp)


def test_starts_near_the_product_identity():
    """Of a fresh module the output follows the level itself, scaled by about one."""
    torch.manual_seed(0)
    sdi = SDI(2, 8, (4, 8, 16))
    features = [torch.randn(1, 8, size, size) for size in SIZES]
    for level, own, out in zip(range(3), features, sdi(features)):
        own = sdi.levels[level].smooth[level](own)
        assert (out - own).norm() < 0.5 * own.norm()


def test_strides_that_do_not_rise_by_whole_factors_and_an_unknown_fusion():
    for strides in ((4,), (8, 4), (4, 6), (4, 4)):
        with pytest.raises(ValueError, match="each a multiple"):
            SDI(2, 8, strides)
    with pytest.raises(ValueError, match="'mul', 'add', 'cat'"):
        SDI(2, 8, (4, 8), "max")


def test_channel_attention_by_hand():
    attention = ChannelAttention(2, in_channels=2, reduction=2)
    attention.mlp[0].weight.data = torch.tensor([[1.0, -1.0]]).reshape(1, 2, 1, 1)
    attention.mlp[2].weight.data = torch.tensor([[2.0], [-1.0]]).reshape(2, 1, 1, 1)
    x = torch.tensor([[1.0, 3.0], [0.0, 2.0]]).reshape(1, 2, 1, 2)
    # means (2, 1) -> relu(1) -> (2, -1); maxima (3, 2) -> relu(1) -> (2, -1); sum (4, -2)
    expected = x * torch.sigmoid(torch.tensor([4.0, -2.0])).reshape(1, 2, 1, 1)
    torch.testing.assert_close(attention(x), expected)


def test_spatial_attention_by_hand():
    attention = SpatialAttention(2, kernel_size=1)
    attention.conv.weight.data = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)
    x = torch.tensor([[1.0, 3.0], [0.0, -3.0]]).reshape(1, 2, 1, 2)
    # means (0.5, 0), maxima (1, 3) -> 2.5 and 6
    torch.testing.assert_close(attention(x), x * torch.sigmoid(torch.tensor([2.5, 6.0])))


def test_three_dimensions_and_a_bottleneck_that_never_vanishes():
    x, channel = torch.rand(2, 4, 3, 5, 6), ChannelAttention(3, 4)
    assert SpatialAttention(3)(channel(x)).shape == x.shape
    assert channel.mlp[0].out_channels == 1
