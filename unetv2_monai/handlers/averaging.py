# SPDX-License-Identifier: Apache-2.0
"""Averages of the weights, updated while training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from torch import nn

__all__ = ["EpochMean", "MovingAverage"]


class MovingAverage:
    """
    Update a moving average of the weights after every iteration.

    Args:
        average: a :py:class:`timm.utils.ModelEmaV3`.
        network: whose weights are averaged.
    """

    def __init__(self, average: Any, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.average.update(self.network, step=engine.state.iteration)


class EpochMean:
    """
    Keep the plain mean of the weights at the end of each epoch from ``start`` on; before, the last weights.

    It is updated at the last iteration of an epoch, since validation comes first at the end of the epoch.

    Args:
        average: a :py:class:`torch.optim.swa_utils.AveragedModel`.
        network: whose weights are averaged.
        start: the first epoch that counts, from 1.
    """

    def __init__(self, average: Any, network: nn.Module, start: int) -> None:
        self.average = average
        self.network = network
        self.start = start

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration % engine.state.epoch_length:  # type: ignore[operator]
            return
        if engine.state.epoch >= self.start:
            self.average.update_parameters(self.network)
        else:
            self.average.module.load_state_dict(self.network.state_dict())
