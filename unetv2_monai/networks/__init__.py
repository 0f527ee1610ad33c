# SPDX-License-Identifier: Apache-2.0
"""The network and its parts."""

from .attention import ChannelAttention, SpatialAttention
from .encoders import ListEncoder, TimmEncoder, build_encoder
from .sdi import SDI
from .unetv2 import UNetV2
from .weights import (
    encoder_weights,
    load_backbone,
    load_encoder,
    load_timm_backbone,
    load_weights,
    options_of,
    read_weights,
    with_options,
)

__all__ = [
    "SDI",
    "ChannelAttention",
    "ListEncoder",
    "SpatialAttention",
    "TimmEncoder",
    "UNetV2",
    "build_encoder",
    "encoder_weights",
    "load_backbone",
    "load_encoder",
    "load_timm_backbone",
    "load_weights",
    "options_of",
    "read_weights",
    "with_options",
]
