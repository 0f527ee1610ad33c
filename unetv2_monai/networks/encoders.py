# SPDX-License-Identifier: Apache-2.0
"""
Encoders behind one small interface: attributes ``channels`` and ``strides``, one entry per level, finest first, and a
``forward`` that returns the list of feature maps. timm's are two-dimensional, MONAI's two- and three-dimensional.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from timm.layers import Format
from timm.layers.conv2d_same import Conv2dSame
from timm.models.hiera import Hiera
from torch import nn
from torch.nn import functional as F

from ..core.errors import InputError
from .weights import load_backbone, load_timm_backbone

__all__ = ["ListEncoder", "TimmEncoder", "build_encoder"]

LEVELS = 4  # of the paper; a backbone with more gives its coarsest four unless out_indices say otherwise
MONAI = "monai:"


def build_encoder(
    backbone: str | nn.Module,
    spatial_dims: int = 2,
    in_channels: int = 3,
    pretrained: bool | str = False,
    out_indices: Sequence[int] | None = None,
    **kwargs: Any,
) -> TimmEncoder | ListEncoder:
    """
    Make an encoder of a name or of a module.

    Args:
        backbone: a timm model ("pvt_v2_b2"), one of the backbones that MONAI keeps for FlexibleUNet, written with a
            prefix ("monai:resnet18"), or a module whose ``forward`` returns a list of feature maps, finest first.
        spatial_dims: number of spatial dimensions; timm's models have two. Defaults to 2.
        in_channels: number of channels of the image. Defaults to 3.
        pretrained: True for the library's own weights, or a file with weights of this backbone; not for a module.
            Defaults to False.
        out_indices: which levels to use, rising; None takes the coarsest four. Defaults to None.
        kwargs: further arguments of the backbone; not for a module.

    Raises:
        InputError: (a ValueError) when there is no such backbone, it has no feature pyramid, or it cannot do what is
            asked.
    """
    if isinstance(backbone, nn.Module):
        if pretrained or kwargs:
            raise InputError(
                "a module as backbone takes no pretrained and no backbone_args: make it with them, and load weights "
                "into it."
            )
        return ListEncoder(backbone, spatial_dims, in_channels, out_indices)
    if backbone.startswith(MONAI):
        name = backbone.removeprefix(MONAI)
        known = FLEXUNET_BACKBONE.register_dict
        if name not in known:
            raise InputError(f"MONAI has no backbone {name!r}; did you mean {_near(name, known, MONAI)}?")
        defaults = {"spatial_dims": spatial_dims, "in_channels": in_channels, "pretrained": pretrained is True}
        model = known[name]["type"](**{**known[name]["parameter"], **defaults, **kwargs})
        if isinstance(pretrained, str):
            load_backbone(model, pretrained)
        return ListEncoder(model, spatial_dims, in_channels, out_indices)
    if spatial_dims != 2:
        raise InputError(
            f"timm's {backbone!r} is two-dimensional; for spatial_dims {spatial_dims} choose one of MONAI's, such as "
            f"{MONAI}resnet18 or {MONAI}efficientnet-b0, or give a module."
        )
    return TimmEncoder(backbone, in_channels, pretrained, out_indices, **kwargs)


class TimmEncoder(nn.Module):
    """
    The feature pyramid of a timm backbone (two-dimensional). Channels and strides are timm's ``feature_info``.

    Args:
        backbone: name of a timm model, see ``timm.list_models()``.
        in_channels: number of channels of the image. Defaults to 3.
        pretrained: True for timm's weights (downloaded unless cached), or a file of this backbone's weights: timm's,
            or for PVTv2 those of its authors. Defaults to False.
        out_indices: which of the backbone's levels to use, rising; None takes the coarsest four. Defaults to None.
        kwargs: further arguments of the backbone, for example ``drop_path_rate=0.1``; Swin needs
            ``strict_img_size=False`` and Hiera ``img_size`` for sizes other than it was made for.

    Raises:
        InputError: (a ValueError) when timm has no such model, no weights for it, or it has no feature pyramid.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int = 3,
        pretrained: bool | str = False,
        out_indices: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if ":" not in backbone:
            if not timm.is_model(backbone):
                raise InputError(f"timm has no model {backbone!r}; did you mean {_near(backbone, timm.list_models())}?")
            if pretrained is True and not timm.is_model_pretrained(backbone):
                raise InputError(f"timm has no weights for {backbone!r}: set pretrained to False or to a file.")

        def create(indices: Sequence[int] | None) -> Any:
            chosen: dict[str, Any] = {} if indices is None else {"out_indices": tuple(indices)}
            chosen |= {"features_only": True, "in_chans": in_channels, "pretrained": pretrained is True}
            try:
                return timm.create_model(backbone, **chosen, **kwargs)
            except OSError as error:  # only pretrained weights come from files or the network
                raise InputError(
                    f"the weights of {backbone!r} could not be downloaded ({type(error).__name__}). "
                    "Set --pretrained to a file of them, or to false."
                ) from error

        model = create(out_indices)
        if out_indices is None and len(model.feature_info) > LEVELS:
            model = create(_coarsest(len(model.feature_info)))
        if isinstance(pretrained, str):
            load_timm_backbone(model, timm.create_model(backbone, in_chans=in_channels, **kwargs), pretrained)
        _make_padding_constant(model)
        self.model = model
        self.channels = tuple(model.feature_info.channels())
        self.strides = tuple(model.feature_info.reduction())
        _check_pyramid(backbone, self.strides)
        hiera = getattr(model, "model", None)
        if isinstance(hiera, Hiera):  # adds a table of positions, which has one size
            self._only_size(backbone, *(n * s for n, s in zip(hiera.tokens_spatial_shape, hiera.patch_stride)))
        self.permute = getattr(model, "output_fmt", Format.NCHW) == Format.NHWC

    def _only_size(self, backbone: str, height: int, width: int) -> None:
        """Say what to set where a backbone that is built for one size gets another one."""

        def check(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            found = tuple(inputs[0].shape[2:])
            if found != (height, width):
                raise InputError(
                    f"{backbone!r} is built for images of {height} x {width}, got {found[0]} x {found[1]}. Set "
                    f"backbone_args to {{'img_size': [{found[0]}, {found[1]}]}}."
                )

        self.register_forward_pre_hook(check)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: images of shape (Batch, in_channels, height, width), both multiples of the largest stride.

        Returns:
            One tensor per level, finest first, of shape (Batch, channels, height / stride, width / stride).
        """
        features = self.model(x)
        if self.permute:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return features


class ConstantSameConv2d(nn.Conv2d):
    """
    A convolution with TensorFlow's "same" padding, for inputs whose size is a multiple of the stride.

    timm's ``Conv2dSame`` computes that padding from the input's size at run time, which ``torch.export`` cannot save.
    For multiples of the stride it is a constant, the smaller half of it before the image. Weights keep their names.

    Args:
        source: the convolution to replace, whose weights are shared.
    """

    def __init__(self, source: Any) -> None:  # a Conv2dSame, whose sizes are typed too widely
        super().__init__(
            source.in_channels, source.out_channels, source.kernel_size, source.stride, 0, source.dilation,
            source.groups, source.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = source.weight, source.bias
        sides: list[int] = []
        for kernel, stride, dilation in zip(self.kernel_size, self.stride, self.dilation):
            total = max((kernel - 1) * dilation + 1 - stride, 0)
            sides = [total // 2, total - total // 2, *sides]  # F.pad begins with the last dimension
        self.sides = sides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(F.pad(x, self.sides), self.weight, self.bias)


class ListEncoder(nn.Module):
    """
    A module that returns a list of feature maps, as an encoder. Channels and strides are measured on one (weightless)
    pass; layers that no used level depends on are removed.

    Args:
        model: its ``forward`` takes an image and returns feature maps, finest first.
        spatial_dims: number of spatial dimensions.
        in_channels: number of channels of the image.
        out_indices: which levels to use, rising; None takes the coarsest four. Defaults to None.

    Raises:
        InputError: (a ValueError) when the levels are no pyramid.
    """

    def __init__(
        self, model: nn.Module, spatial_dims: int, in_channels: int, out_indices: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        name, size = type(model).__name__, 64
        # on the meta device a pass computes shapes and gradients' existence, and nothing else
        shadow = copy.deepcopy(model).to("meta").train().requires_grad_(True)  # a frozen layer is not an unused one
        features = list(shadow(torch.zeros(2, in_channels, *[size] * spatial_dims, device="meta")))
        self.out_indices = list(_coarsest(len(features)) if out_indices is None else out_indices)
        used = [features[i] for i in self.out_indices]
        ratios = [{size / n for n in feature.shape[2:]} for feature in used]
        if any(len(ratio) > 1 or not min(ratio).is_integer() for ratio in ratios):
            shapes = [tuple(feature.shape[2:]) for feature in used]
            raise InputError(f"{name} shrinks the dimensions of an image of size {size} unequally: {shapes}.")
        self.channels = tuple(feature.shape[1] for feature in used)
        self.strides = tuple(int(min(ratio)) for ratio in ratios)
        _check_pyramid(name, self.strides)
        torch.stack([feature.sum() for feature in used]).sum().backward()
        _remove_idle(model, shadow)
        self.model = model

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: images of shape (Batch, in_channels, dim_0, dim_1[, dim_2]), all multiples of the largest stride.

        Returns:
            One tensor per level, finest first.
        """
        features = self.model(x)
        return [features[i] for i in self.out_indices]


def _make_padding_constant(model: nn.Module) -> None:
    for name, child in model.named_children():
        if isinstance(child, Conv2dSame):
            setattr(model, name, ConstantSameConv2d(child))
        else:
            _make_padding_constant(child)


def _coarsest(levels: int) -> range:
    return range(max(levels - LEVELS, 0), levels)


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.3)
    return " or ".join(prefix + match for match in near)


def _check_pyramid(name: str, strides: Sequence[int]) -> None:
    if len(strides) < 2 or any(coarse <= fine for fine, coarse in pairwise(strides)):
        raise InputError(
            f"{name!r} has no feature pyramid: its levels have strides {tuple(strides)}, which must rise. "
            "Choose a hierarchical backbone such as pvt_v2_b2, convnextv2_tiny or resnet34."
        )


def _remove_idle(model: nn.Module, shadow: nn.Module) -> None:
    """Replace what has parameters, none of which got a gradient in ``shadow``, by an identity."""
    for name, child in shadow.named_children():
        gradients = [parameter.grad for parameter in child.parameters()]
        if gradients and all(gradient is None for gradient in gradients):
            setattr(model, name, nn.Identity())
        else:
            _remove_idle(getattr(model, name), child)
