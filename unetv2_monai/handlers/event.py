# SPDX-License-Identifier: Apache-2.0
"""Handlers of one event."""

from typing import Any

from ignite.engine import Engine


class OnEvent:
    """A handler for one event: the engine that it is attached to calls it at ``event``."""

    event: Any

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, self)

    def __call__(self, engine: Engine) -> None:
        raise NotImplementedError
