# SPDX-License-Identifier: Apache-2.0
"""A training that can be stopped at any moment, and goes on exactly as it would have."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader
from monai.transforms import Randomizable

from ..bundle.context import running_config
from ..bundle.run_folder import record_start
from ..core.errors import InputError
from .checkpoints import AtomicCheckpointSaver
from .runs import EpochLog, EpochSeed, NaNGuard, OwnSchedule, StopOnSignal

__all__ = ["TrainingRun"]

logger = logging.getLogger(__name__)


class TrainingRun:
    """
    Keep a training in its folder, and resume it exactly.

    - ``run.json`` notes each start: command, versions, commit, config. ``metrics.csv`` has a row per epoch.
    - ``last.pt`` holds all that goes on: network, optimiser, schedule, best score, epoch.
    - The random numbers of an epoch depend on the seed and the epoch alone, so that a resumed run repeats them.
    - SIGTERM and Ctrl-C end the run after the current iteration; ``engine.state.exit_status`` is then 143 or 130.
    - A loss that is not a number ends it too, before it changes the weights; the batch is kept in ``nan_batch.pt``.

    Args:
        output_dir: folder of the run.
        ckpt_dir: folder of ``last.pt``.
        state: what ``last.pt`` holds beside the trainer and its gradient scaler, by name, each with ``state_dict`` and
            ``load_state_dict``. With ``"lr_scheduler"``.
        validator: the engine of the validation.
        transform: of the training data, whose random transforms are seeded.
        seed: of the run. Defaults to 0.
        resume: load ``last.pt`` first. Defaults to False.

    Raises:
        InputError: in training, when a file cannot be written, the loss is not a number, or the epochs of a resumed run
            have another number of steps.
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
        rank = idist.get_rank()
        self.parts: list[Any] = [
            EpochSeed(seed, rank, transform),
            NaNGuard(output_dir),
            EpochLog(output_dir, validator, rank),
        ]

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer, after the handler that runs the validator."""
        for part in self.parts:
            part.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, engine: Any) -> None:
        """Once the trainer is complete, and all other handlers are attached."""
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
        schedule, steps = OwnSchedule(state["lr_scheduler"]), engine.state.epoch_length
        CheckpointLoader(str(self.ckpt_dir / "last.pt"), state, map_location=engine.state.device)(engine)
        if engine.state.epoch_length != steps:
            raise InputError(
                f"the run in {self.output_dir} has epochs of {engine.state.epoch_length} steps, which would now be "
                f"{steps}: dataset_dir has other images, or the number of processes differs. Resume it with those that "
                "it was begun with, or start a new run from its weights (options/finetune.yaml)."
            )
        schedule.apply()
        logger.info(f"{engine.state.epoch} of {engine.state.max_epochs} epochs are done already.")

    def _report(self, engine: Engine) -> None:
        best = self.ckpt_dir / "model.pt"
        if idist.get_rank() == 0 and best.exists():
            print("weights of the best epoch:", best)
