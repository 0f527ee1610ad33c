# SPDX-License-Identifier: Apache-2.0
"""Long runs: a folder of their own, whole checkpoints, randomness that a resumed run repeats, clean stops."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.bundle import ConfigParser
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver
from monai.transforms import Randomizable

from .errors import InputError
from .files import write_whole

__all__ = ["EpochLog", "EpochSeed", "NaNGuard", "RunFolder", "StopOnSignal", "WholeCheckpointSaver"]

PACKAGES = ("monai", "torch", "timm", "pytorch-ignite", "numpy", "nibabel", "pillow")


class RunFolder:
    """
    Take a folder for one run, and note in its ``run.json`` how it was started: command, versions, git state, config.

    Args:
        output_dir: of the run; made if need be.
        ckpt_dir: of its checkpoints.
        resume: the run in it goes on; this start is added to the earlier ones. Defaults to False.
        overwrite: start anew where there is a run. Defaults to False.
        rank: only rank 0 does anything. Defaults to 0.

    Raises:
        InputError: when the folder has the checkpoint of another run, which this one would overwrite, or cannot be
            made.
    """

    def __init__(
        self, output_dir: str, ckpt_dir: str, resume: bool = False, overwrite: bool = False, rank: int = 0
    ) -> None:
        self.path = Path(output_dir) / "run.json"
        self.resume = resume
        self.rank = rank
        parsers = (frame.f_locals.get("self") for frame, _ in traceback.walk_stack(None))
        parser = next((found for found in parsers if isinstance(found, ConfigParser)), None)
        self.config = None if parser is None else parser.get()
        if rank > 0:
            return
        if not (resume or overwrite) and self.path.exists() and (Path(ckpt_dir) / "last.pt").exists():
            raise InputError(
                f"{output_dir} holds a run already. Go on with it by --resume true, name another --output_dir, or "
                "replace it by --overwrite true."
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{output_dir} cannot be written ({error}). Set --output_dir to another folder."
            ) from error

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer; ``run.json`` is written when it starts.
        """
        if self.rank == 0:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        starts = json.loads(self.path.read_text())["starts"] if self.resume and self.path.exists() else []
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "git": _git_state(),
        }
        content = {"starts": [*starts, start], "config": self.config}
        write_whole(self.path, json.dumps(content, indent=1, default=str) + "\n")


def _git_state() -> str | None:
    """Commit of this package's working tree, marked where files differ from it; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.check_output(command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class WholeCheckpointSaver(CheckpointSaver):
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
        saver: Any
        for saver, filename in (
            (self._key_metric_checkpoint, kwargs.get("key_metric_filename")),
            (self._interval_checkpoint, interval_filename),
        ):
            if saver is not None:
                saver.save_handler = _WholeFileSaver(Path(save_dir), filename)

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, which ``load_state_dict`` takes back when a run is resumed."""
        assert self._key_metric_checkpoint is not None
        return dict(self._key_metric_checkpoint.state_dict())


class _WholeFileSaver(BaseSaveHandler):
    def __init__(self, folder: Path, filename: str | None) -> None:
        self.folder = folder
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() == 0:
            write_whole(self.folder / (self.filename or filename), lambda opened: torch.save(checkpoint, opened))

    def remove(self, filename: str) -> None:
        if self.filename is None and idist.get_rank() == 0:  # else the next file replaces it
            (self.folder / filename).unlink(missing_ok=True)


class EpochSeed:
    """
    Draw all randomness of an epoch from the run's seed and the number of the epoch.

    So a run that was stopped and resumed goes on exactly as it would have, whatever was drawn before, and random
    states need not be saved. Workers of a data loader are seeded by torch's seed when they start, so they must start
    anew with each epoch (``persistent_workers: false``).

    Args:
        seed: of the run.
        rank: of the process, so that processes draw different numbers. Defaults to 0.
        transform: random transforms of the training data, which keep states of their own. Defaults to None.
    """

    def __init__(self, seed: int, rank: int = 0, transform: Randomizable | None = None) -> None:
        self.seed = seed
        self.rank = rank
        self.transform = transform

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        value = int(np.random.SeedSequence([self.seed, self.rank, engine.state.epoch]).generate_state(1)[0])
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)
        if self.transform is not None:
            self.transform.set_random_state(seed=value)


class EpochLog:
    """
    Keep ``metrics.csv``: a row per epoch with learning rate, seconds, and all metrics of training and validation.

    Rows after the epoch from which a run was resumed are replaced.

    Args:
        output_dir: folder of the file.
        validator: the engine whose metrics are added in the epochs that it ran in. Defaults to None.
        rank: only rank 0 writes. Defaults to 0.
    """

    def __init__(self, output_dir: str, validator: Engine | None = None, rank: int = 0) -> None:
        self.path = Path(output_dir) / "metrics.csv"
        self.validator = validator
        self.rank = rank
        self.started = time.time()

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer. To be attached after the handler that runs the validator.
        """
        if self.rank == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.started = time.time()

    def __call__(self, engine: Engine) -> None:
        state, validated = engine.state, {}
        if self.validator is not None and self.validator.state.epoch == state.epoch:
            validated = self.validator.state.metrics
        row: dict[str, Any] = {"epoch": state.epoch, "iteration": state.iteration}
        row |= {"learning_rate": engine.optimizer.param_groups[0]["lr"]}  # type: ignore[attr-defined]
        row |= {"seconds": round(time.time() - self.started, 3), **state.metrics, **validated}
        rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open(newline="") as opened:
                rows = [old for old in csv.DictReader(opened) if int(old["epoch"]) < state.epoch]
        rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for one in rows for key in one)))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path, text.getvalue())


class NaNGuard:
    """
    Stop when the loss is no number, before it changes the weights, and keep the batch that it came from.

    Args:
        output_dir: where ``nan_batch.pt`` is written: images, masks, paths, epoch and iteration.

    Raises:
        InputError: in training, with the images of that batch.
    """

    def __init__(self, output_dir: str) -> None:
        self.path = Path(output_dir) / "nan_batch.pt"

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].item()  # type: ignore[index]
        if math.isfinite(loss):
            return
        batch: Any = engine.state.batch
        paths = list(batch.get("path", ["(unknown)"]))
        content = {key: batch[key] for key in ("image", "label", "path") if key in batch}
        content |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        path = self.path.with_stem(f"nan_batch_rank{idist.get_rank()}") if idist.get_rank() else self.path
        write_whole(path, lambda opened: torch.save(content, opened))
        raise InputError(
            f"the loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}, on "
            f"{', '.join(paths)}; the batch is kept in {path}. Look at these files, lower --learning_rate, or go on "
            "from the last epoch by --resume true."
        )


class StopOnSignal:
    """
    On SIGTERM, which clusters send before they kill, end the run after the current iteration with exit status 143.

    The last complete epoch is in the checkpoint already; ``--resume true`` repeats the one that was begun, exactly.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self) -> None:
        self.stopped = False
        self.before: Any = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer. Outside of the main thread signals are left as they are.
        """
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.COMPLETED, self._restore)

    def _listen(self, engine: Engine) -> None:
        def stop(number: int, frame: Any) -> None:
            self.stopped = True
            engine.terminate()

        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, stop)

    def _restore(self, engine: Engine) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def exit_if_stopped(self) -> None:
        """
        Raises:
            SystemExit: with status 143, if the signal came.
        """
        if self.stopped:
            print("stopped by SIGTERM; go on with --resume true", file=sys.stderr)
            sys.exit(self.STATUS)
