# SPDX-License-Identifier: Apache-2.0
"""
Encoders behind one small interface: attributes ``channels`` and ``strides`` (one entry per level, finest first) and a
``forward`` that returns the list of feature maps. Any ``nn.Module`` that has them is an encoder.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.layers import Format
from torch import nn

__all__ = ["TimmEncoder"]

LEVELS = 4  # of the paper; a backbone with more gives its coarsest four unless out_indices say otherwise


class TimmEncoder(nn.Module):
    """
    The feature pyramid of a timm backbone (two-dimensional).

    Args:
        backbone: name of a timm model, see ``timm.list_models()``.
        in_channels: number of channels of the image.
        pretrained: load timm's weights (from the network, or from timm's cache). Defaults to False.
        out_indices: which of the backbone's levels to use, rising; None takes the coarsest four. Defaults to None.
        kwargs: further arguments of the backbone, for example ``drop_path_rate=0.1``, ``img_size``.

    Raises:
        ValueError: when timm has no such model, when it has no feature pyramid, or when a level does not exist.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int = 3,
        pretrained: bool = False,
        out_indices: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if ":" not in backbone and not timm.is_model(backbone):
            near = difflib.get_close_matches(backbone, timm.list_models(), n=3) or ["pvt_v2_b2"]
            raise ValueError(f"timm has no model {backbone!r}; did you mean {' or '.join(near)}?")
        if out_indices is None:
            with torch.device("meta"):
                whole: Any = timm.create_model(backbone, features_only=True, pretrained=False, **kwargs)
            levels = len(whole.feature_info)
            out_indices = range(max(levels - LEVELS, 0), levels)
        model: Any = timm.create_model(
            backbone,
            features_only=True,
            in_chans=in_channels,
            pretrained=pretrained,
            out_indices=tuple(out_indices),
            **kwargs,
        )
        self.model = model
        self.channels = tuple(model.feature_info.channels())
        self.strides = tuple(model.feature_info.reduction())
        if any(coarse <= fine for fine, coarse in pairwise(self.strides)):
            raise ValueError(
                f"{backbone!r} has no feature pyramid: its levels have strides {self.strides}, which must rise. "
                "Choose a hierarchical backbone such as pvt_v2_b2, convnextv2_tiny or resnet34."
            )
        self.permute = getattr(model, "output_fmt", Format.NCHW) == Format.NHWC

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
