# SPDX-License-Identifier: Apache-2.0
"""Write how far the networks of an ensemble agree on each image that is segmented."""

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ..core.errors import InputError
from ..core.tables import Table
from ..inferers import Ensemble


class AgreementTable:
    """Write ``images.csv``, which is ``images_incomplete.csv`` until the run ends: the mean ``agreement`` of each
    image.

    ``network`` is the evaluator's. ``go_on``: keep the rows that an earlier run wrote. Defaults to False. Raises
    InputError when the network is no ensemble, or when the file cannot be written.
    """

    def __init__(self, output_dir: str, network: Any, go_on: bool = False) -> None:
        if not isinstance(network, Ensemble):
            raise InputError(
                "one network has no agreement: give ensemble before agreement (--with ensemble agreement)."
            )
        self.path, self.go_on = Path(output_dir) / "images.csv", go_on

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output has ``agreement``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, lambda: self.table.finish())

    def _start(self, engine: Engine) -> None:
        self.table = Table(self.path, ["file", "agreement"], self.go_on)

    def _add(self, engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output):
            name = Path(item["image"].meta["filename_or_obj"]).name
            self.table.add([name, f"{output['agreement'].mean():.4f}"])
