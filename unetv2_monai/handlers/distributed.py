# SPDX-License-Identifier: Apache-2.0
"""What several processes need that train together."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn

__all__ = ["BroadcastBuffers"]


class BroadcastBuffers:
    """
    Give all processes the buffers of the first one before validation, so that each scores the same network.

    ``DistributedDataParallel`` does so before a forward pass of training only; statistics of batch norms differ after
    the last one.

    Args:
        network: that is scored, which may be an average of the trained one.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the evaluator of the validation.
        """
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        for buffer in self.network.buffers():
            torch.distributed.broadcast(buffer, 0)
