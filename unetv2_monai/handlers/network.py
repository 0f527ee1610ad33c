# SPDX-License-Identifier: Apache-2.0
"""Handlers that act on the network in training: averages of weights, limits of gradients, equal buffers."""

from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_


class OnEvent:
    """A handler for one event: the engine that it is attached to calls it at ``event``."""

    event: Any

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, self)  # type: ignore[arg-type]


@dataclass(eq=False)
class MovingAverage(OnEvent):
    """Update a moving average of the weights after every iteration."""

    average: Any  # a timm.utils.ModelEmaV3
    network: nn.Module  # whose weights are averaged
    event = Events.ITERATION_COMPLETED

    def __call__(self, engine: Engine) -> None:
        self.average.update(self.network, step=engine.state.iteration)


@dataclass(eq=False)
class BroadcastBuffers(OnEvent):
    """Send the buffers of the first process to all others before validation, so that each scores the same network.

    ``DistributedDataParallel`` does so only before a forward pass of training, so batch-norm statistics differ after
    the last pass.
    """

    network: nn.Module  # the one that is scored, which may be an average of the trained one
    event = Events.STARTED  # of the validation

    def __call__(self, engine: Engine) -> None:
        for buffer in self.network.buffers():
            torch.distributed.broadcast(buffer, 0)


@dataclass(eq=False)
class ClipGradients(OnEvent):
    """Limit the gradients of every iteration, before the optimiser uses them."""

    network: nn.Module
    max_norm: float | None = None  # limit of the Euclidean norm of all gradients together
    max_value: float | None = None  # every entry is clamped to plus or minus this value
    event = IterationEvents.BACKWARD_COMPLETED

    def __call__(self, engine: Engine) -> None:
        trainer: Any = engine
        if trainer.scaler:  # mixed precision: gradients are scaled until here
            trainer.scaler.unscale_(trainer.optimizer)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        if self.max_value is not None:
            clip_grad_value_(parameters, self.max_value)
        if self.max_norm is not None:
            clip_grad_norm_(parameters, self.max_norm)
