# SPDX-License-Identifier: Apache-2.0
"""Semantics and detail infusion (SDI), the skip connection of U-Net v2 (https://arxiv.org/abs/2311.17791)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from ..core.errors import InputError

FUSIONS = ("mul", "add", "cat")
LINEAR = {2: "bilinear", 3: "trilinear"}


class SDI(nn.Module):
    """Give every level of a feature pyramid the semantics of all coarser and the details of all finer levels.

    For level i, every level j is resized to the size of level i: by average pooling if j is finer, by linear
    interpolation if j is coarser. Then a 3x3 convolution for this pair (i, j) smooths it. Finally all levels j are
    fused, in the paper by the Hadamard (element-wise) product.

    Based on: "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation",
    https://arxiv.org/abs/2311.17791, section 2.2.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the inputs and of the outputs, the same at all levels.
        strides: factor by which each level is smaller than the image, finest first, for example ``(4, 8, 16, 32)``.
        fusion: ``"mul"``, the product of the paper; ``"add"``, a sum; or ``"cat"``, concatenation and a 1x1 convolution
            back to ``channels``. Defaults to ``"mul"``.

    Raises:
        InputError: when a stride is not a larger multiple of the one before, or ``fusion`` is not one of the three.
    """

    def __init__(self, spatial_dims: int, channels: int, strides: Sequence[int], fusion: str = "mul") -> None:
        super().__init__()
        if len(strides) < 2 or any(coarse <= fine or coarse % fine for fine, coarse in pairwise(strides)):
            raise InputError(f"strides must be two or more, each a multiple of the one before, got {tuple(strides)}.")
        if fusion not in FUSIONS:
            raise InputError(f"fusion must be one of {FUSIONS}, got {fusion!r}.")
        self.levels = nn.ModuleList(
            [SDILevel(spatial_dims, channels, strides, level, fusion) for level in range(len(strides))]
        )

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Fuse the features of all levels, once for each level.

        Args:
            features: one tensor per level, finest first, of shape (Batch, channels, dim_0 / stride, dim_1 / stride
                [, dim_2 / stride]); every dimension of the image must be a multiple of the largest stride.

        Returns:
            As many tensors, of the same shapes.
        """
        fused: list[torch.Tensor] = []
        for level in self.levels:
            fused.append(level(features))
        return fused


class SDILevel(nn.Module):
    """Resize all levels to the size of one level, smooth them, and fuse them."""

    def __init__(self, spatial_dims: int, channels: int, strides: Sequence[int], level: int, fusion: str) -> None:
        super().__init__()
        self.fusion = fusion
        conv = Conv[Conv.CONV, spatial_dims]
        self.resize = nn.ModuleList([_resize(spatial_dims, stride, strides[level]) for stride in strides])
        smooth = [conv(channels, channels, kernel_size=3, padding=1) for _ in strides]
        self.smooth = nn.ModuleList(smooth)
        self.project = conv(len(strides) * channels, channels, kernel_size=1) if fusion == "cat" else nn.Identity()
        if fusion == "mul":
            # the gradients of a product of small random numbers vanish, so the other levels start close to one
            for j, other in enumerate(smooth):
                if j != level:
                    nn.init.normal_(other.weight, std=0.01)
                    nn.init.ones_(other.bias)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        resized: list[torch.Tensor] = []
        # features are indexed, not zipped: TorchScript does not know the length of a list of tensors
        for j, (resize, smooth) in enumerate(zip(self.resize, self.smooth)):
            resized.append(smooth(resize(features[j])))
        if self.fusion == "cat":
            return self.project(torch.cat(resized, dim=1))
        out = resized[0]
        for other in resized[1:]:
            out = out * other if self.fusion == "mul" else out + other
        return out


def _resize(spatial_dims: int, stride: int, target: int) -> nn.Module:
    """Resize a level from ``stride`` to ``target`` by a constant factor, as exports with dynamic sizes need."""
    if stride < target:
        return Pool[Pool.AVG, spatial_dims](target // stride)
    if stride > target:
        return nn.Upsample(scale_factor=stride // target, mode=LINEAR[spatial_dims], align_corners=True)
    return nn.Identity()
