# SPDX-License-Identifier: Apache-2.0
"""The network and its parts."""

from .attention import ChannelAttention, SpatialAttention
from .encoders import Encoder, build_encoder, prune_unused
from .sdi import SDI
from .unetv2 import UNetV2
from .weights import check_weights, load_encoder, load_members, load_weights, options_of, read_weights, with_options
