# SPDX-License-Identifier: Apache-2.0
"""Build encoders from timm (two-dimensional), from MONAI (two- or three-dimensional), or from a user's module."""

import difflib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from timm.layers import Format
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn import functional as F

from ..core.errors import InputError
from .weights import imagenet_weights, load_encoder

LEVELS = 4  # feature levels in the paper
Levels = Sequence[int] | None  # indices of feature maps; None: the coarsest four
SIZE = 64  # of the image that a module's strides are measured with; they must divide it
MONAI = "monai:"


class Encoder(nn.Module):
    """Return those feature maps of a backbone that the network uses, channels first.

    ``channels`` and ``strides`` have one entry for each used feature map, finest first.

    ``model`` takes an image and returns a list of feature maps, finest first, with these ``channels`` and ``strides``;
    ``out_indices`` are those to use, ascending (None: the coarsest four). ``channels_last``: the last axis is channels.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        out_indices: Levels = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.out_indices = _used_levels(len(channels), out_indices)
        self.channels = tuple(channels[i] for i in self.out_indices)
        self.strides = tuple(strides[i] for i in self.out_indices)
        self.channels_last = channels_last
        self.name, self.in_channels = type(model).__name__, 0  # build_encoder sets both

    def __call__(self, x: torch.Tensor) -> Any:
        """Return the feature maps; raise InputError if the backbone does not take images of this size."""
        try:
            return super().__call__(x)
        except (AssertionError, IndexError, RuntimeError) as error:
            known = x.shape[1] == self.in_channels and (isinstance(error, IndexError) or not self._takes(x.shape))
            if not known:
                raise
            size, reason = list(x.shape[2:]), str(error).rstrip(".")
            raise InputError(
                f"{self.name!r} does not take images of {' x '.join(map(str, size))} ({reason}). Set backbone_args to "
                f"{{'img_size': {size}}}, or choose another backbone."
            ) from error

    def _takes(self, shape: Sequence[int]) -> bool:
        """Tell whether the backbone takes images of a shape, whatever their values, on any device."""
        try:
            _features_on_meta(self.model, shape)
        except Exception:  # a model's own checks, and those of PyTorch
            return False
        return True

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return one tensor per level, finest first. The image size must be a multiple of the largest stride."""
        features = self.model(x)
        used = [features[i] for i in self.out_indices]
        if self.channels_last:
            used = [feature.permute(0, 3, 1, 2) for feature in used]
        return used


def build_encoder(
    backbone: str | nn.Module,
    spatial_dims: int = 2,
    in_channels: int = 3,
    pretrained: bool | str = False,
    out_indices: Levels = None,
    **kwargs: Any,
) -> Encoder:
    """Build an encoder from the name of a backbone or from a module.

    Args:
        backbone: name of a timm model ("pvt_v2_b2"), see ``timm.list_models()``; name of a MONAI backbone for
            FlexibleUNet with a prefix ("monai:resnet18"); or a module whose ``forward`` returns a list of feature maps,
            finest first. A module is used unchanged, see also :py:func:`prune_unused`.
        spatial_dims: 2 or 3; timm's models take only 2. Defaults to 2.
        in_channels: channels of the image. Defaults to 3.
        pretrained: see :py:class:`UNetV2`. Not for a module. Defaults to False.
        out_indices: indices of the levels to use, ascending. Defaults to None: the coarsest four.
        kwargs: further arguments of the backbone, for example ``drop_path_rate=0.1``; not for a module. For image sizes
            other than their own, Swin needs ``strict_img_size=False``, and Hiera needs ``img_size``.

    Raises:
        InputError: when there is no such backbone, when it has no weights or no feature pyramid, or when it does not
            support the arguments.
    """
    if pretrained == "auto":
        pretrained = imagenet_weights(backbone)
    if isinstance(backbone, nn.Module):
        if pretrained or kwargs:
            raise InputError("a module as backbone takes no pretrained and no backbone_args: make it with them.")
        encoder = _measure(backbone, spatial_dims, in_channels, out_indices)
    else:
        try:
            build = _monai_encoder if backbone.startswith(MONAI) else _timm_encoder
            encoder = build(backbone, spatial_dims, in_channels, pretrained, out_indices, **kwargs)
        except TypeError as error:
            if not kwargs or "unexpected keyword argument" not in str(error):
                raise
            raise InputError(f"{backbone!r} does not take backbone_args {kwargs} ({error}): leave them out.") from error
        encoder.name, encoder.in_channels = backbone, in_channels
    strides = encoder.strides
    if len(strides) < 2 or any(coarse <= fine for fine, coarse in pairwise(strides)):
        raise InputError(
            f"{encoder.name!r} has no feature pyramid: its levels have strides {strides}, which must rise. "
            "Choose a hierarchical backbone such as pvt_v2_b2, convnextv2_tiny or resnet34."
        )
    return encoder


def _monai_encoder(
    backbone: str, spatial_dims: int, in_channels: int, pretrained: bool | str, out_indices: Levels, **kwargs: Any
) -> Encoder:
    name, known = backbone.removeprefix(MONAI), FLEXUNET_BACKBONE.register_dict
    if name not in known:
        raise InputError(f"MONAI has no backbone {name!r}; did you mean {_near(name, known, MONAI)}?")
    chosen = {"spatial_dims": spatial_dims, "in_channels": in_channels, "pretrained": pretrained is True}
    model = known[name]["type"](**{**known[name]["parameter"], **chosen, **kwargs})
    prune_unused(model, spatial_dims, in_channels, out_indices)
    if isinstance(pretrained, str):
        load_encoder(model, pretrained)
    return _measure(model, spatial_dims, in_channels, out_indices)


def prune_unused(model: nn.Module, spatial_dims: int, in_channels: int, out_indices: Levels = None) -> nn.Module:
    """Replace the layers that no used feature map depends on, such as those of a classifier, by identities. Return the
    changed module.

    ``DistributedDataParallel`` would wait for these layers' gradients, and files of weights are smaller without them.

    ``model`` takes an image of ``spatial_dims`` (2 or 3) and ``in_channels``, returns a list of feature maps, and is
    changed in place. ``out_indices`` are those of the feature maps that are used; None: the last four.
    """
    features, parameters = _features_on_meta(model, [2, in_channels, *[SIZE] * spatial_dims])
    total = torch.stack([features[i].sum() for i in _used_levels(len(features), out_indices)]).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    used = [name for name, gradient in zip(parameters, gradients) if gradient is not None]

    def prune(parent: nn.Module, path: str) -> None:
        for name, child in parent.named_children():
            inside = f"{path}{name}."
            if any(key.startswith(inside) for key in used):
                prune(child, inside)
            elif next(child.parameters(), None) is not None:
                setattr(parent, name, nn.Identity())

    prune(model, "")
    return model


def _used_levels(levels: int, out_indices: Levels) -> list[int]:
    return list(range(levels)[-LEVELS:] if out_indices is None else out_indices)


def _features_on_meta(model: nn.Module, shape: Sequence[int]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return feature maps and parameters on the meta device, which has shapes and gradients but no values."""
    parameters = {name: value.detach().to("meta").requires_grad_() for name, value in model.named_parameters()}
    buffers = {name: value.to("meta") for name, value in model.named_buffers()}
    image = torch.zeros(*shape, device="meta")
    return list(torch.func.functional_call(model, {**parameters, **buffers}, image)), parameters


def _measure(model: nn.Module, spatial_dims: int, in_channels: int, out_indices: Levels) -> Encoder:
    """Build an encoder from a module. The shapes of the feature maps give its channels and strides."""
    features, _ = _features_on_meta(model, [2, in_channels, *[SIZE] * spatial_dims])
    sizes = [tuple(feature.shape[2:]) for feature in features]
    used = [sizes[i] for i in _used_levels(len(features), out_indices)]
    if any(len(set(size)) > 1 or SIZE % size[0] for size in used):
        raise InputError(f"{type(model).__name__} shrinks the dimensions of an image of size {SIZE} unequally: {used}.")
    return Encoder(model, [feature.shape[1] for feature in features], [SIZE // n for n, *_ in sizes], out_indices)


def _timm_encoder(
    backbone: str, spatial_dims: int, in_channels: int, pretrained: bool | str, out_indices: Levels, **kwargs: Any
) -> Encoder:
    if spatial_dims != 2:
        raise InputError(
            f"timm's {backbone!r} is two-dimensional; for spatial_dims {spatial_dims} choose one of MONAI's, such as "
            f"{MONAI}resnet18 or {MONAI}efficientnet-b0, or give a module."
        )
    if ":" not in backbone:  # a name such as "hf-hub:..." is looked up by timm alone
        if not timm.is_model(backbone):
            raise InputError(f"timm has no model {backbone!r}; did you mean {_near(backbone, timm.list_models())}?")
        if pretrained is True and not timm.is_model_pretrained(backbone):
            raise InputError(f"timm has no weights for {backbone!r}: pretrained must be False or a file.")
    kwargs["in_chans"] = in_channels

    def create(indices: Levels) -> Any:
        chosen: dict[str, Any] = {} if indices is None else {"out_indices": tuple(indices)}
        try:
            return timm.create_model(backbone, features_only=True, pretrained=pretrained is True, **chosen, **kwargs)
        except OSError as error:  # only pretrained weights come from files or the network
            failed = f"the weights of {backbone!r} could not be downloaded ({type(error).__name__})"
            raise InputError(f"{failed}: pretrained must be False or a file of them.") from error

    model = create(out_indices)
    if out_indices is None and len(model.feature_info) > LEVELS:
        model = create(_used_levels(len(model.feature_info), None))
    if isinstance(pretrained, str):
        load_encoder(model, pretrained, backbone, **kwargs)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                setattr(module, name, ConstantSameConv2d(child))
    info = model.feature_info
    channels_last = getattr(model, "output_fmt", Format.NCHW) == Format.NHWC
    return Encoder(model, info.channels(), info.reduction(), range(len(info.channels())), channels_last)


class ConstantSameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, for inputs whose size is a multiple of the stride.

    It shares the weights of timm's ``Conv2dSame``, which computes the padding from the input's size at run time. With
    that, ``torch.export`` takes minutes. Here the padding is constant, and its smaller half is before the image.
    """

    def __init__(self, source: Any) -> None:  # a Conv2dSame; its own type declares the sizes too widely
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


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.3)
    return " or ".join(prefix + match for match in near)
