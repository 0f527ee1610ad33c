# SPDX-License-Identifier: Apache-2.0
"""Semantics and detail infusion (SDI), the skip connection of U-Net v2 (https://arxiv.org/abs/2311.17791)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn

__all__ = ["SDI", "FUSIONS"]

FUSIONS = ("mul", "add", "cat")
LINEAR = {2: "bilinear", 3: "trilinear"}


def check_strides(strides: Sequence[int]) -> None:
    """Raise ``ValueError`` unless every stride is a multiple of the one before it and larger."""
    steps = list(zip(strides, strides[1:]))
    if len(strides) < 2 or any(coarse <= fine or coarse % fine for fine, coarse in steps):
        raise ValueError(
            f"strides must hold at least two levels, finest first, each a multiple of the one before: got {tuple(strides)}."
        )


class Fusion(nn.Module):
    """
    Fuse ``levels`` tensors of one shape (Batch, channels, ...) into one of that shape.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        channels: number of channels of every tensor.
        levels: number of tensors.
        mode: ``"mul"``, ``"add"`` or ``"cat"``, see :py:class:`SDI`.
    """

    def __init__(self, spatial_dims: int, channels: int, levels: int, mode: str) -> None:
        super().__init__()
        if mode not in FUSIONS:
            raise ValueError(f"fusion must be one of {FUSIONS}, got {mode!r}.")
        self.mode = mode
        project = Conv[Conv.CONV, spatial_dims](levels * channels, channels, 1) if mode == "cat" else nn.Identity()
        self.project = project

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        if self.mode == "cat":
            return self.project(torch.cat(features, dim=1))
        out = features[0]
        for other in features[1:]:
            out = out * other if self.mode == "mul" else out + other
        return out


class SDI(nn.Module):
    """
    Give every level of a feature pyramid the semantics of all coarser and the details of all finer levels.

    For level i every level j is brought to the size of level i (average pooling if j is finer, linear interpolation
    if j is coarser), smoothed by a 3x3 convolution of its own, and all of them are fused, in the paper by the
    Hadamard (element-wise) product.

    Based on: "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation",
    https://arxiv.org/abs/2311.17791, section 2.2.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        channels: number of channels, the same at all levels, of the inputs and of the outputs.
        strides: for every level, finest first, by how much it is smaller than the image, for example ``(4, 8, 16, 32)``.
        fusion: how the levels are fused: ``"mul"`` (the paper), ``"add"``, or ``"cat"`` (concatenation and a 1x1
            convolution back to ``channels``). Defaults to ``"mul"``.

    Raises:
        ValueError: when ``strides`` do not rise by whole factors, or ``fusion`` is not one of the three.

    Example::

        sdi = SDI(spatial_dims=2, channels=32, strides=(4, 8, 16, 32))
        features = [torch.rand(1, 32, 256 // s, 256 // s) for s in (4, 8, 16, 32)]
        infused = sdi(features)  # four tensors of the same shapes
    """

    def __init__(self, spatial_dims: int, channels: int, strides: Sequence[int], fusion: str = "mul") -> None:
        super().__init__()
        check_strides(strides)
        conv = Conv[Conv.CONV, spatial_dims]
        levels = len(strides)

        def resize(source: int, target: int) -> nn.Module:
            # constant factors, not sizes read at run time: exports with dynamic height and width need them
            if source < target:
                return Pool[Pool.AVG, spatial_dims](strides[target] // strides[source])
            if source > target:
                factor = strides[source] // strides[target]
                return nn.Upsample(scale_factor=factor, mode=LINEAR[spatial_dims], align_corners=True)
            return nn.Identity()

        self.resize = nn.ModuleList([nn.ModuleList([resize(j, i) for j in range(levels)]) for i in range(levels)])
        self.smooth = nn.ModuleList(
            [nn.ModuleList([conv(channels, channels, 3, padding=1) for _ in range(levels)]) for _ in range(levels)]
        )
        self.fuse = nn.ModuleList([Fusion(spatial_dims, channels, levels, fusion) for _ in range(levels)])

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """
        Args:
            features: one tensor per level, finest first, of shape (Batch, channels, dim_0 / stride, dim_1 / stride
                [, dim_2 / stride]); every dimension of the image must be a multiple of the largest stride.

        Returns:
            The fused features: as many tensors, of the same shapes.
        """
        fused: list[torch.Tensor] = []
        # features are indexed, not zipped: TorchScript does not know the length of a list of tensors
        for resizes, smooths, fuse in zip(self.resize, self.smooth, self.fuse):
            level: list[torch.Tensor] = []
            for j, (resize, smooth) in enumerate(zip(resizes, smooths)):
                level.append(smooth(resize(features[j])))
            fused.append(fuse(level))
        return fused
