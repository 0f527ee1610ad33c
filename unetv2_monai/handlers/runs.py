# SPDX-License-Identifier: Apache-2.0
"""Resume long runs exactly, write their metrics per epoch, and stop them cleanly."""

import logging
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointLoader
from monai.transforms import Randomizable

from ..bundle.context import running_config
from ..bundle.run_folder import record_start
from ..core.errors import InputError
from ..core.files import read_csv, write_atomic, write_csv
from .checkpoints import AtomicCheckpointSaver

logger = logging.getLogger(__name__)


def seed_epoch(engine: Engine, seed: int, rank: int, transform: Randomizable) -> None:
    """Seed all random number generators, from the run's seed and the number of the epoch.

    So a resumed run continues exactly, and random states need not be saved. The workers of a data loader are seeded
    when they start, so each epoch must start them again (``persistent_workers: false``). Processes of different rank
    get different seeds. ``transform`` contains random transforms, which have random states of their own.
    """
    value = int(np.random.SeedSequence([seed, rank, engine.state.epoch]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
    transform.set_random_state(seed=value)


class EpochLog:
    """Write one row per epoch to ``metrics.csv``: the learning rate at its start, its seconds, the metrics of training,
    and those of validation if it ran. A resumed run replaces the rows of the epochs that it repeats.
    """

    def __init__(self, output_dir: Path, validator: Engine) -> None:
        self.path = output_dir / "metrics.csv"
        self.validator = validator
        self.started = time.time()
        self.learning_rate = float("nan")

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the handler that runs the validator. Only rank 0 writes."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self.started = time.time()
        self.learning_rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]

    def __call__(self, engine: Engine) -> None:
        state, validation = engine.state, self.validator.state
        row: dict[str, Any] = {"epoch": state.epoch, "iteration": state.iteration, "learning_rate": self.learning_rate}
        row |= {"seconds": round(time.time() - self.started, 3), **state.metrics}
        if validation.epoch == state.epoch:
            row |= validation.metrics
        before = read_csv(self.path) if self.path.exists() else []
        rows = [*(old for old in before if int(old["epoch"]) < state.epoch), row]
        write_csv(self.path, rows, list(dict.fromkeys(key for one in rows for key in one)))


def refuse_nan(engine: Engine, output_dir: Path) -> None:
    """Raise InputError when the loss is not finite, before it changes the weights, and save the batch in a file."""
    loss = engine.state.output["loss"].item()  # type: ignore[index]
    if math.isfinite(loss):
        return
    batch: Any = engine.state.batch
    paths = list(batch.get("path", ["(unknown)"]))
    content = {key: batch[key] for key in ("image", "label", "path") if key in batch}
    content |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
    path = output_dir / (f"nan_batch_rank{idist.get_rank()}.pt" if idist.get_rank() else "nan_batch.pt")
    write_atomic(path, lambda opened: torch.save(content, opened))
    raise InputError(
        f"the loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}, on "
        f"{', '.join(paths)}; the batch is kept in {path}. Look at these files, lower learning_rate, or resume "
        "from the last epoch."
    )


@contextmanager
def own_length(scheduler: Any) -> Iterator[None]:
    """Make a resumed run follow the schedule of its config, while a checkpoint is loaded.

    A checkpoint also holds the old length, at whose end the learning rate is 0. If the length is unchanged, nothing is
    done, so the run continues with exactly the same rates as without a stop.
    """
    progress = ("last_epoch", "_step_count")
    own = {k: v for k, v in scheduler.state_dict().items() if isinstance(v, int | float) and k not in progress}
    yield
    if any(getattr(scheduler, key) != value for key, value in own.items()):
        for key, value in own.items():
            setattr(scheduler, key, value)
        # get_lr of PolynomialLR multiplies the last rate, which may be 0, so its closed form is used
        rates = getattr(scheduler, "_get_closed_form_lr", scheduler.get_lr)()
        for group, rate in zip(scheduler.optimizer.param_groups, rates):
            group["lr"] = rate


class StopOnSignal:
    """End the run after the current iteration on SIGTERM, which clusters send before they kill, or on SIGINT (Ctrl-C).

    ``engine.state.exit_status`` is then 143 or 130, else 0. A second signal ends the process immediately. A resumed run
    repeats the interrupted epoch exactly. If a signal or a time limit stops one of several processes, all of them end
    in the same iteration. Otherwise the others would wait for its gradients.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a starting trainer, after handlers that may end it. Signals are caught only in the main thread."""
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


class TrainingRun:
    """Record a training in its folder, and resume it exactly.

    - ``run.json`` notes each start: command, versions, commit, config. ``metrics.csv`` has a row per epoch.
    - ``last.pt`` holds all that a resumed run needs: network, optimiser, schedule, best score, epoch.
    - The random numbers of an epoch depend on the seed and the epoch alone, so that a resumed run repeats them.
    - SIGTERM and Ctrl-C end the run after the current iteration; ``engine.state.exit_status`` is then 143 or 130.
    - A loss that is not finite ends the run before it changes the weights; the batch is saved in ``nan_batch.pt``.

    Args:
        output_dir, ckpt_dir: folders of the run and of ``last.pt``.
        state: objects, by name, that ``last.pt`` holds beside the trainer and its gradient scaler. Each has
            ``state_dict`` and ``load_state_dict``. ``"lr_scheduler"`` is required.
        validator: the engine of the validation.
        transform, seed: the transform of the training data, whose random transforms are seeded, and the run's seed.
        resume: load ``last.pt`` first. Defaults to False.

    Raises:
        InputError: in training, when a file cannot be written, when the loss is not finite, or when the epochs of a
            resumed run have another number of steps than before.
    """

    def __init__(
        self,
        output_dir: str,
        ckpt_dir: str,
        state: dict[str, Any],
        validator: Engine,
        transform: Randomizable,
        seed: int = 0,
        resume: bool = False,
    ) -> None:
        self.output_dir, self.ckpt_dir = Path(output_dir), Path(ckpt_dir)
        self.state, self.resume = state, resume
        self.config = running_config()
        self.started = False
        self.seed, self.transform = seed, transform
        self.log = EpochLog(self.output_dir, validator)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the handler that runs the validator."""
        engine.add_event_handler(Events.EPOCH_STARTED, seed_epoch, self.seed, idist.get_rank(), self.transform)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, refuse_nan, self.output_dir)
        self.log.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, engine: Any) -> None:
        """Start or resume the run, once the trainer is complete and all other handlers are attached."""
        if self.started:  # federated learning starts a trainer again and again
            return
        self.started = True
        state = {**self.state, "trainer": engine, "scaler": engine.scaler or torch.amp.GradScaler("cpu")}
        if self.resume:
            self._load(engine, state)
        if idist.get_rank() == 0:
            record_start(self.output_dir / "run.json", self.config, self.resume)
        StopOnSignal().attach(engine)
        AtomicCheckpointSaver(str(self.ckpt_dir), state, "last.pt", save_interval=1).attach(engine)

    def _load(self, engine: Any, state: dict[str, Any]) -> None:
        steps = engine.state.epoch_length
        with own_length(state["lr_scheduler"]):
            CheckpointLoader(str(self.ckpt_dir / "last.pt"), state, map_location=engine.state.device)(engine)
        if engine.state.epoch_length != steps:
            raise InputError(
                f"the run in {self.output_dir} has epochs of {engine.state.epoch_length} steps, which would now be "
                f"{steps}: dataset_dir has other images, or the number of processes differs. Resume it with those that "
                "it was begun with, or start a new run from its weights (options/finetune.yaml)."
            )
        logger.info(f"{engine.state.epoch} of {engine.state.max_epochs} epochs are done already.")

    def _report(self, engine: Engine) -> None:
        best = self.ckpt_dir / "model.pt"
        if idist.get_rank() == 0 and best.exists():
            print("weights of the best epoch:", best)
