# SPDX-License-Identifier: Apache-2.0
"""Channel and spatial attention (CBAM, https://arxiv.org/abs/1807.06521) in two or three dimensions."""

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn


class ChannelAttention(nn.Module):
    """Weight every channel by its mean and its maximum over the image: ``x * sigmoid(mlp(mean(x)) + mlp(max(x)))``.

    ``mlp`` is a bottleneck of two 1x1 convolutions. Mean and maximum share it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input and of the output.
        reduction: the bottleneck has ``in_channels // reduction`` channels, at least one. Defaults to 16.
    """

    def __init__(self, spatial_dims: int, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        hidden = max(in_channels // reduction, 1)
        self.avg_pool = Pool[Pool.ADAPTIVEAVG, spatial_dims](1)
        self.max_pool = Pool[Pool.ADAPTIVEMAX, spatial_dims](1)
        self.mlp = nn.Sequential(
            conv(in_channels, hidden, kernel_size=1, bias=False),
            nn.ReLU(),
            conv(hidden, in_channels, kernel_size=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weight features of shape (Batch, in_channels, dim_0, dim_1[, dim_2]); the shape is unchanged."""
        return x * torch.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))


class SpatialAttention(nn.Module):
    """Weight every position by channel mean and maximum in its neighbourhood: ``x * sigmoid(conv([mean(x), max(x)]))``.

    Args:
        spatial_dims: 2 or 3.
        kernel_size: odd kernel size of the convolution. Defaults to 7.
    """

    def __init__(self, spatial_dims: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weight features of shape (Batch, channels, dim_0, dim_1[, dim_2]); the shape is unchanged."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))
