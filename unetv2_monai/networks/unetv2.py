# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Dropout
from torch import nn
from torch.nn import functional as F

from ..core.errors import InputError
from .attention import ChannelAttention, SpatialAttention
from .encoders import build_encoder
from .sdi import LINEAR, SDI

if TYPE_CHECKING:
    from ..pretrained import PretrainedUNetV2

ATTENTIONS = ("channel_first", "spatial_first", "none")
UPSAMPLES = ("deconv", "interp")


class UNetV2(nn.Module):
    """Segment images or volumes of any size with U-Net v2.

    The encoder gives feature maps at several levels. Each level passes channel and spatial attention and a 1x1
    convolution to ``channels`` channels. SDI multiplies it with the smoothed features of all other levels. The decoder
    adds the levels up from coarse to fine, and each decoded level has a head, a 1x1 convolution.

    With the defaults this is the network that the authors released, without its one unused layer. Only the initial
    weights of SDI differ. ``convert_released_state_dict`` converts the authors' weights.

    Based on: "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation",
    https://arxiv.org/abs/2311.17791.

    Args:
        spatial_dims: 2 or 3. Defaults to 2.
        in_channels: channels of the image. Defaults to 3.
        out_channels: 1 for one structure with a sigmoid, or the number of classes, background included, with a softmax.
            Defaults to 1.
        backbone: name of a timm model with a feature pyramid (``"pvt_v2_b0"``, ``"convnextv2_tiny"``, ``"resnet34"``),
            or of a MONAI backbone, also three-dimensional (``"monai:resnet18"``, ``"monai:efficientnet-b0"``); or a
            module that returns a list of feature maps, finest first. Defaults to ``"pvt_v2_b2"``, the paper's.
        channels: channels of all levels after the encoder, ``c`` in the paper. Defaults to 32.
        deep_supervision: return the outputs of all heads while training. The state dict is the same either way.
            Defaults to False.
        dropout: probability that a channel is zeroed before the heads. Defaults to 0.0.
        pretrained: initial weights of the encoder. True: weights of the backbone's library, downloaded unless cached. A
            path: a file of them, for PVTv2 also the authors' own. ``"auto"``: the bundle's ImageNet weights for this
            backbone, or random ones if it has none. False: random ones. Defaults to False.
        attention: order of the two attentions at every level: ``"channel_first"`` (the released code),
            ``"spatial_first"`` (the paper's equation) or ``"none"``. Defaults to ``"channel_first"``.
        sdi: whether to use SDI. False gives plain skip connections, the paper's "U-Net (PVT)". Defaults to True.
        fusion: how SDI fuses the levels: ``"mul"`` (the paper), ``"add"`` or ``"cat"``. Defaults to ``"mul"``.
        upsample: how the decoder upsamples: ``"deconv"`` (the released code) or ``"interp"``, linear interpolation
            without weights. Defaults to ``"deconv"``.
        norm: normalisation after the 1x1 convolutions: a MONAI layer or (layer, arguments). Defaults to ``"batch"``.
        out_indices: indices of the backbone's levels to use, ascending. Defaults to None: the coarsest four.
        backbone_args: further arguments of the backbone, for example ``{"drop_path_rate": 0.1}``, which the released
            code trains with. Defaults to None.
        freeze_encoder: whether to freeze the encoder: its weights have no gradients, and its normalisation layers stay
            in eval mode. In a scripted network, ``train()`` ends this eval mode. Defaults to False.
        grad_checkpointing: whether the backward pass recomputes the activations of a timm encoder, which saves memory.
            Defaults to False.

    Raises:
        InputError: (a ValueError) when an argument has a value that is not allowed, the backbone has no feature
            pyramid, or a file given as ``pretrained`` is missing or lacks a weight of the encoder.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        backbone: str | nn.Module = "pvt_v2_b2",
        channels: int = 32,
        deep_supervision: bool = False,
        dropout: float = 0.0,
        pretrained: bool | str = False,
        attention: str = "channel_first",
        sdi: bool = True,
        fusion: str = "mul",
        upsample: str = "deconv",
        norm: str | tuple = "batch",
        out_indices: Sequence[int] | None = None,
        backbone_args: dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise InputError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if in_channels < 1 or out_channels < 1 or channels < 1:
            given = f"{in_channels}, {out_channels} and {channels}"
            raise InputError(f"in_channels, out_channels and channels must be positive, got {given}.")
        self.deep_supervision = deep_supervision

        self.encoder = build_encoder(
            backbone, spatial_dims, in_channels, pretrained, out_indices, **(backbone_args or {})
        )
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False).eval()
        if grad_checkpointing:
            switch: Any = getattr(self.encoder.model, "set_grad_checkpointing", None)
            if switch is None:
                raise InputError(f"grad_checkpointing: {type(self.encoder.model).__name__} has no such mode.")
            switch(True)
        self.strides = list(self.encoder.strides)

        self.gates = nn.ModuleList([_gate(spatial_dims, c, attention) for c in self.encoder.channels])
        self.reduce = nn.ModuleList(
            [
                Convolution(spatial_dims, c, channels, kernel_size=1, act=None, norm=norm, bias=False)
                for c in self.encoder.channels
            ]
        )
        self.sdi = SDI(spatial_dims, channels, self.strides, fusion) if sdi else None
        self.decoder = Decoder(spatial_dims, channels, self.strides, upsample)
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.heads = nn.ModuleList(
            [Conv[Conv.CONV, spatial_dims](channels, out_channels, kernel_size=1) for _ in self.strides]
        )
        self.enlarge_logits = nn.Upsample(scale_factor=self.strides[0], mode=LINEAR[spatial_dims], align_corners=False)
        if not deep_supervision:
            # kept for an equal state dict, but frozen, since DistributedDataParallel waits for every gradient
            self.heads[1:].requires_grad_(False)

    @classmethod
    def from_pretrained(cls, weights: str | Path, device: str = "cpu") -> PretrainedUNetV2:
        """Build a trained network with ``predict(image)``; see :py:func:`unetv2_monai.pretrained.load_pretrained`."""
        from ..pretrained import load_pretrained  # imported late: it imports this class

        return load_pretrained(weights, device)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment images of any size.

        Args:
            x: images of shape (Batch, in_channels, dim_0, dim_1[, dim_2]). Sizes that are not a multiple of the
                encoder's largest stride are padded with zeros at the end of each dimension, and the output is cropped.

        Returns:
            Raw logits (no activation) of shape (Batch, out_channels, dim_0, dim_1[, dim_2]). While training with
            ``deep_supervision``, a list of logits, finest first. The size of head i is divided by
            ``strides[i] / strides[0]`` and rounded up.
        """
        # TorchScript needs loops that append, and lists of tensors that are indexed, not zipped
        sizes = list(x.shape[2:])
        stride = self.strides[-1]
        features = self.encoder(_fit(x, [(size + stride - 1) // stride * stride for size in sizes]))

        skips: list[torch.Tensor] = []
        for i, (gate, reduce) in enumerate(zip(self.gates, self.reduce)):
            skips.append(reduce(gate(features[i])))
        if self.sdi is not None:
            skips = self.sdi(skips)
        decoded = self.decoder(skips)

        outputs: list[torch.Tensor] = []
        for i, head in enumerate(self.heads):
            if i == 0 or (self.training and self.deep_supervision):
                shrink = self.strides[i] // self.strides[0]
                out = self.enlarge_logits(head(self.dropout(decoded[i])))
                out = _fit(out, [(size + shrink - 1) // shrink for size in sizes])
                outputs.append(out)
        if self.training and self.deep_supervision:
            return outputs
        return outputs[0]

    def train(self, mode: bool = True) -> UNetV2:
        """Switch between training and eval mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self


def _fit(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Pad with zeros, or crop, at the end of each spatial dimension."""
    pad: list[int] = []
    for dim in range(len(sizes)):  # F.pad starts at the last dimension
        pad.extend([0, sizes[-1 - dim] - x.shape[-1 - dim]])
    return F.pad(x, pad)


class Decoder(nn.Module):
    """Add the levels up from coarse to fine: each decoded level is upsampled and added to the next finer one."""

    def __init__(self, spatial_dims: int, channels: int, strides: Sequence[int], upsample: str) -> None:
        super().__init__()
        if upsample not in UPSAMPLES:
            raise InputError(f"upsample must be one of {UPSAMPLES}, got {upsample!r}.")
        steps = list(pairwise(strides))
        # "enlarge" is part of the names of the weights
        self.enlarge = nn.ModuleList(
            [_enlarge(spatial_dims, channels, coarse // fine, upsample) for fine, coarse in reversed(steps)]
        )

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        out = features[-1]
        decoded = [out]
        for i, enlarge in enumerate(self.enlarge):
            out = enlarge(out) + features[len(features) - 2 - i]
            decoded.append(out)
        return decoded[::-1]


def _enlarge(spatial_dims: int, channels: int, factor: int, upsample: str) -> nn.Module:
    """Return the layer that upsamples in one step of the decoder, see :py:class:`UNetV2`."""
    if upsample == "interp":
        return nn.Upsample(scale_factor=factor, mode=LINEAR[spatial_dims], align_corners=False)
    # as in the released code, the kernel is twice the factor, so that neighbouring inputs overlap
    return Conv[Conv.CONVTRANS, spatial_dims](
        channels,
        channels,
        kernel_size=2 * factor,
        stride=factor,
        padding=(factor + 1) // 2,
        output_padding=factor % 2,
        bias=False,
    )


def _gate(spatial_dims: int, channels: int, attention: str) -> nn.Module:
    """Return the attention of one level, see :py:class:`UNetV2`."""
    if attention not in ATTENTIONS:
        raise InputError(f"attention must be one of {ATTENTIONS}, got {attention!r}.")
    if attention == "none":
        return nn.Identity()
    gate = [ChannelAttention(spatial_dims, channels), SpatialAttention(spatial_dims)]
    return nn.Sequential(*(gate if attention == "channel_first" else reversed(gate)))
