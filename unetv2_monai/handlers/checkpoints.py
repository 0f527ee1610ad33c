# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of training: written atomically, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointLoader, CheckpointSaver
from torch.nn.parallel import DistributedDataParallel

from ..core.errors import InputError
from ..core.files import write_atomic
from ..networks.weights import read_weights

__all__ = ["AtomicCheckpointSaver", "StrictCheckpointLoader", "WholeCheckpointSaver", "last_checkpoint"]


def last_checkpoint(ckpt_dir: str) -> str:
    """
    What training left in ``ckpt_dir`` to be resumed from.

    Args:
        ckpt_dir: folder of ``last.pt``.

    Returns:
        Its path.

    Raises:
        InputError: when there is none, or it is no checkpoint.
    """
    path = Path(ckpt_dir) / "last.pt"
    what = "" if path.exists() else "does not exist"
    try:
        if not what and "trainer" not in torch.load(path, map_location="cpu", weights_only=True, mmap=True):
            what = "holds no run"
    except Exception as error:  # unpickling raises almost anything
        what = f"cannot be read ({type(error).__name__})"
    if what:
        raise InputError(
            f"nothing to resume: {path} {what}. Set --output_dir to that of the stopped run, or leave out --resume."
        )
    return str(path)


class AtomicCheckpointSaver(CheckpointSaver):
    """
    MONAI's ``CheckpointSaver``, which replaces a file in one step: a process killed at any moment, or a full disk,
    leaves the last good one.

    Args:
        save_dir: folder of the files.
        save_dict: what to save, by name.
        interval_filename: one file for all saves of ``save_interval``, each replacing the one before.
        kwargs: other arguments of :py:class:`monai.handlers.CheckpointSaver`.

    Raises:
        InputError: in training, when a file cannot be written.
    """

    def __init__(
        self, save_dir: str, save_dict: dict[str, Any], interval_filename: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(save_dir, save_dict, **kwargs)
        self.engine: Any = None
        saver: Any
        for saver, filename in (
            (self._key_metric_checkpoint, kwargs.get("key_metric_filename")),
            (self._interval_checkpoint, interval_filename),
        ):
            if saver is not None:
                saver.save_handler = _AtomicSaveHandler(Path(save_dir), filename)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: whose metric or epochs decide.
        """
        self.engine = engine
        super().attach(engine)

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, which ``load_state_dict`` takes back when a run is resumed."""
        assert self._key_metric_checkpoint is not None
        best = {key: getattr(self.engine.state, key) for key in ("best_metric", "best_metric_epoch")}
        return {**self._key_metric_checkpoint.state_dict(), **best}

    def load_state_dict(self, state_dict: dict) -> None:
        """Also for the engine, which logs it."""
        super().load_state_dict(state_dict)
        for key in ("best_metric", "best_metric_epoch"):
            setattr(self.engine.state, key, state_dict[key])


class _AtomicSaveHandler(BaseSaveHandler):
    def __init__(self, folder: Path, filename: str | None) -> None:
        self.folder = folder
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() == 0:
            write_atomic(self.folder / (self.filename or filename), lambda opened: torch.save(checkpoint, opened))

    def remove(self, filename: str) -> None:
        if self.filename is None and idist.get_rank() == 0:  # else the next file replaces it
            (self.folder / filename).unlink(missing_ok=True)


class StrictCheckpointLoader(CheckpointLoader):
    """
    MONAI's ``CheckpointLoader`` for weights, which refuses a wrong file when it is built, before anything runs.

    Args:
        load_path: a file with the plain state dict, or one under the key of ``load_dict``, as training leaves them.
        load_dict: one network, as ``{"model": network}``.
        kwargs: other arguments of :py:class:`monai.handlers.CheckpointLoader`.

    Raises:
        InputError: when there is no such file, when it holds no weights, or those of another network, with the first
            entries that differ.
    """

    def __init__(self, load_path: str, load_dict: dict[str, torch.nn.Module], **kwargs: Any) -> None:
        ((key, network),) = load_dict.items()
        read_weights(load_path, network.module if isinstance(network, DistributedDataParallel) else network, key)
        super().__init__(load_path, load_dict, **kwargs)


WholeCheckpointSaver = AtomicCheckpointSaver  # its former name, in the config.json of evaluations that report.py reads
