# SPDX-License-Identifier: Apache-2.0
"""Long runs: a folder of their own, randomness that a resumed run repeats, clean stops."""

from __future__ import annotations

import csv
import difflib
import inspect
import io
import json
import logging
import math
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines.utils import IterationEvents
from monai.transforms import Randomizable

from .errors import InputError
from .files import write_whole

__all__ = ["EpochLog", "EpochSeed", "NaNGuard", "RunFolder", "StopOnSignal", "check_options"]

logger = logging.getLogger(__name__)

# what a resumed run may have otherwise than before: where and how it runs, not what is trained
FREE = {
    "bundle_root", "bundle_dir", "code_path", "dataset_dir", "output_dir", "ckpt_dir", "log_dir", "check_data",
    "cache_rate", "num_workers", "compile", "deterministic", "overwrite", "resume", "device", "val_interval",
    "max_epochs",
}  # fmt: skip
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
        self.config = config_as_run()
        if rank > 0:
            return
        if resume and self.path.exists():
            self._compare()
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

    def _compare(self) -> None:
        """Refuse to go on with a run by other options than it was begun with."""
        before, now = flat(json.loads(self.path.read_text())["config"]), flat(self.config)
        differs = [
            f"{key} {before.get(key)!r}, now {now.get(key)!r}"
            for key in {**before, **now}
            if key.split("#")[0] not in FREE and str(before.get(key)) != str(now.get(key))
        ]
        if differs:
            more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
            raise InputError(
                f"the run in {self.path.parent} was begun with {'; '.join(differs[:5])}{more}. Resume it with the "
                "options that it was begun with, or name another --output_dir for a new run."
            )
        if before.get("max_epochs") != now.get("max_epochs"):
            logger.warning(
                f"max_epochs was {before.get('max_epochs')} and is now {now.get('max_epochs')}: the schedule of the "
                "learning rate, which belongs to it, changes with it."
            )

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer; ``run.json`` is written when it starts.
        """
        if self.rank == 0:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.resume:
            logger.info(f"{engine.state.epoch} of {engine.state.max_epochs} epochs are done already.")
        starts = json.loads(self.path.read_text())["starts"] if self.resume and self.path.exists() else []
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "git": git_state(),
        }
        content = {"starts": [*starts, start], "config": self.config}
        write_whole(self.path, json.dumps(content, indent=1, default=str) + "\n")


def flat(content: Any, path: str = "") -> dict[str, Any]:
    """All values that are no dict or list, under their paths in the config: ``{"optimizer#lr": 0.1}``."""
    if not isinstance(content, dict | list):
        return {path: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return {k: v for key, value in items for k, v in flat(value, f"{path}#{key}" if path else str(key)).items()}


def config_as_run() -> dict[str, Any]:
    """The config that is being resolved, overlays and options merged into it; empty outside of ``monai.bundle``."""
    callers = (frame.f_locals.get("self") for frame, _ in traceback.walk_stack(None))
    parser = next((found for found in callers if isinstance(found, ConfigParser)), None)
    return {} if parser is None else {key: value for key, value in parser.get().items() if key != "_meta_"}


def check_options() -> None:
    """
    Refuse options of the command line that nothing in the config refers to, which ``monai.bundle`` would ignore.

    Raises:
        InputError: with the name that was probably meant.
    """
    config = config_as_run()
    own = set(inspect.signature(monai.bundle.run).parameters)
    given = [re.split("[=#]", word[2:])[0] for word in sys.argv[1:] if word.startswith("--")]
    used = {key: set(re.findall(r"[@%](\w+)", json.dumps(value, default=str))) for key, value in config.items()}
    for name in given:
        referred = set().union(*(found for key, found in used.items() if key != name))
        if name in config and name not in own | referred and not isinstance(config[name], dict | list):
            close = difflib.get_close_matches(name, sorted(referred & config.keys()), 1)
            hint = f"; did you mean --{close[0]}?" if close else ". docs/configuration.md lists them."
            raise InputError(f"there is no option --{name}{hint}")


def git_state() -> str | None:
    """Commit of this package's working tree, marked where files differ from it; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.check_output(command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


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
    Keep ``metrics.csv``: a row per epoch with the learning rate at its start, its seconds, and all metrics of training
    and validation.

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
        self.learning_rate = float("nan")

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
