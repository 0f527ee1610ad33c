# SPDX-License-Identifier: Apache-2.0
"""Limits for gradients."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

__all__ = ["ClipGradients"]


class ClipGradients:
    """
    Limit the gradients of every iteration, before the optimiser uses them.

    Args:
        network: whose gradients are limited.
        max_norm: the Euclidean norm of all gradients together is scaled down to it. Defaults to None: any.
        max_value: every entry is clamped to plus or minus it. Defaults to None: any.
    """

    def __init__(self, network: nn.Module, max_norm: float | None = None, max_value: float | None = None) -> None:
        self.network = network
        self.max_norm = max_norm
        self.max_value = max_value

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a :py:class:`monai.engines.SupervisedTrainer`.
        """
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        trainer: Any = engine
        if trainer.scaler:  # mixed precision: gradients are scaled until here
            trainer.scaler.unscale_(trainer.optimizer)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        if self.max_value is not None:
            clip_grad_value_(parameters, self.max_value)
        if self.max_norm is not None:
            clip_grad_norm_(parameters, self.max_norm)
