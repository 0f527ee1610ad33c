# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of training, written atomically."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointSaver

from ..bundle.carried import options_to_carry
from ..bundle.context import running_config, running_parser
from ..core.files import write_atomic
from ..networks.weights import with_options


class AtomicCheckpointSaver(CheckpointSaver):
    """MONAI's ``CheckpointSaver``, but it replaces a file in one step: after a kill at any moment, or on a full disk,
    the last good file is still there. A file that holds only weights also carries the options of their training.

    ``interval_filename`` names one file, which every save of ``save_interval`` replaces. Other arguments are MONAI's.
    Raises InputError in training when a file cannot be written.
    """

    def __init__(
        self, save_dir: str, save_dict: dict[str, Any], interval_filename: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(save_dir, save_dict, **kwargs)
        self.engine: Any = None
        parser = running_parser()
        options = options_to_carry(running_config(), parser.get("_meta_") if parser else None)
        saver: Any
        for saver, filename in (
            (self._key_metric_checkpoint, kwargs.get("key_metric_filename")),
            (self._interval_checkpoint, interval_filename),
        ):
            if saver is not None:
                saver.save_handler = _AtomicSaveHandler(Path(save_dir), filename, options)

    def attach(self, engine: Engine) -> None:
        """Attach to an engine, whose metric or epochs decide when to save."""
        self.engine = engine
        super().attach(engine)

    def state_dict(self) -> dict[str, Any]:
        """Return the best metric so far, which ``load_state_dict`` takes back when a run is resumed."""
        assert self._key_metric_checkpoint is not None
        best = {key: getattr(self.engine.state, key) for key in ("best_metric", "best_metric_epoch")}
        return {**self._key_metric_checkpoint.state_dict(), **best}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the best metric, also in the state of the engine, which logs it."""
        super().load_state_dict(state_dict)
        for key in ("best_metric", "best_metric_epoch"):
            setattr(self.engine.state, key, state_dict[key])


class _AtomicSaveHandler(BaseSaveHandler):
    def __init__(self, folder: Path, filename: str | None, options: Mapping[str, Any]) -> None:
        self.folder, self.filename, self.options = folder, filename, options

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() > 0:
            return
        if all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
            checkpoint = with_options(checkpoint, self.options)
        write_atomic(self.folder / (self.filename or filename), lambda opened: torch.save(checkpoint, opened))

    def remove(self, filename: str) -> None:
        if self.filename is None and idist.get_rank() == 0:  # else the next file replaces it
            (self.folder / filename).unlink(missing_ok=True)
