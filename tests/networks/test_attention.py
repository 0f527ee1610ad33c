# SPDX-License-Identifier: Apache-2.0
import torch

from unetv2_monai.networks import ChannelAttention, SpatialAttention


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
