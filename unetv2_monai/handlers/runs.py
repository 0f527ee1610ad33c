# SPDX-License-Identifier: Apache-2.0
"""Long runs: randomness that a resumed run repeats, metrics per epoch, clean stops."""

from __future__ import annotations

import csv
import io
import math
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.transforms import Randomizable

from ..core.errors import InputError
from ..core.files import write_atomic

__all__ = ["EpochLog", "EpochSeed", "NaNGuard", "OwnSchedule", "StopOnSignal"]


class EpochSeed:
    """
    Draw all randomness of an epoch from the run's seed and the number of the epoch.

    So a resumed run goes on exactly as it would have, and random states need not be saved. Workers of a data loader are
    seeded when they start, so they must start anew with each epoch (``persistent_workers: false``). Processes draw
    different numbers by their rank. ``transform`` has random transforms, which keep states of their own.
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
    Keep ``metrics.csv``: a row per epoch with the learning rate at its start, its seconds, and all metrics of training
    and, in the epochs that it ran in, of the validator. Rows after the epoch from which a run was resumed are replaced.
    """

    def __init__(self, output_dir: str, validator: Engine | None = None, rank: int = 0) -> None:
        self.path = Path(output_dir) / "metrics.csv"
        self.validator = validator
        self.rank = rank
        self.started = time.time()
        self.learning_rate = float("nan")

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer, after the handler that runs the validator; only rank 0 writes."""
        if self.rank == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.started = time.time()
        self.learning_rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]

    def __call__(self, engine: Engine) -> None:
        state, validated = engine.state, {}
        if self.validator is not None and self.validator.state.epoch == state.epoch:
            validated = self.validator.state.metrics
        row: dict[str, Any] = {"epoch": state.epoch, "iteration": state.iteration}
        row |= {"learning_rate": self.learning_rate}
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
        write_atomic(self.path, text.getvalue())


class NaNGuard:
    """Stop by an InputError when the loss is no number, before it changes the weights, and keep its batch in a file."""

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
        write_atomic(path, lambda opened: torch.save(content, opened))
        raise InputError(
            f"the loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}, on "
            f"{', '.join(paths)}; the batch is kept in {path}. Look at these files, lower learning_rate, or resume "
            "from the last epoch."
        )


class OwnSchedule:
    """
    Let a resumed run follow the schedule of its config where that has another length than before.

    A checkpoint holds the length of the old schedule too, at whose end the learning rate is 0. Where nothing changed,
    nothing is done, so that a run goes on with exactly the rates that it would have had. To be made before the
    checkpoint is loaded into the schedule.
    """

    PROGRESS = ("last_epoch", "_step_count")

    def __init__(self, lr_scheduler: Any) -> None:
        self.lr_scheduler = lr_scheduler
        state = lr_scheduler.state_dict()
        self.own = {k: v for k, v in state.items() if isinstance(v, int | float) and k not in self.PROGRESS}

    def apply(self) -> None:
        """Set the schedule's own length again, after the checkpoint was loaded into it."""
        scheduler = self.lr_scheduler
        loaded = {key: getattr(scheduler, key) for key in self.own}
        if loaded == self.own:
            return
        for key, value in self.own.items():
            setattr(scheduler, key, value)
        # PolynomialLR multiplies the last rate, which may be 0, but knows the rate of an epoch too; others compute it
        rates = getattr(scheduler, "_get_closed_form_lr", scheduler.get_lr)()
        for group, rate in zip(scheduler.optimizer.param_groups, rates):
            group["lr"] = rate


class StopOnSignal:
    """
    End the run after the current iteration on SIGTERM, which clusters send before they kill, and on Ctrl-C (SIGINT).

    ``engine.state.exit_status`` is then 143 or 130, else 0. A second signal ends the process immediately. A resumed run
    repeats the epoch that was begun, exactly. Several processes end in the same iteration, for a signal or a time limit
    of any of them: else the others would wait for its gradients.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer that starts now, after handlers that may end it; signals only in the main thread."""
        engine.state.exit_status = 0  # type: ignore[attr-defined]
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _note(self, number: int, frame: Any) -> None:
        self.stopped_by = signal.Signals(number)
        self._restore()

    def _stop(self, engine: Engine) -> None:
        stop: Any = self.stopped_by is not None or bool(engine.should_terminate)
        if idist.get_world_size() > 1:
            stop = idist.all_reduce(float(stop))
        if stop:
            engine.terminate()

    def _finish(self, engine: Engine) -> None:
        self._restore()
        if self.stopped_by is not None:
            print(f"stopped by {self.stopped_by.name}; go on with --resume true", file=sys.stderr)
            engine.state.exit_status = 128 + self.stopped_by  # type: ignore[attr-defined]

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
