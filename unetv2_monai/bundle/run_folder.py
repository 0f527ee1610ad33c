# SPDX-License-Identifier: Apache-2.0
"""The folder of a run, and what was run in it."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..core.errors import InputError
from ..core.files import write_atomic
from .context import running_config

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

# what a resumed run may have otherwise than before: where and how it runs, not what is trained
FREE = {
    "bundle_root", "bundle_dir", "code_path", "dataset_dir", "output_dir", "ckpt_dir", "log_dir", "check_data",
    "cache_rate", "num_workers", "compile", "deterministic", "overwrite", "resume", "device", "val_interval",
    "max_epochs", "max_hours", "time_limit", "initialize",
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
        self.config = running_config()
        self.steps: int | None = None
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
                f"max_epochs was {before.get('max_epochs')} and is now {now.get('max_epochs')}: from here on the "
                "learning rate follows the schedule of the new number."
            )

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer; ``run.json`` is written when it starts. To be attached after the handler that loads
                the checkpoint.

        Raises:
            InputError: then, when epochs have another number of steps than those of the run that goes on: the
                checkpoint's number would hold, so that epochs see a part of the images, or some of them again.
        """
        self.steps = engine.state.epoch_length
        if self.rank == 0:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.resume:
            if engine.state.epoch_length != self.steps:
                raise InputError(
                    f"the run in {self.path.parent} has epochs of {engine.state.epoch_length} steps, which would now "
                    f"be {self.steps}: dataset_dir has other images, or the number of processes differs. Resume it "
                    "with those that it was begun with, or start a new run from its weights (options/finetune.yaml)."
                )
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
        write_atomic(self.path, json.dumps(content, indent=1, default=str) + "\n")


def flat(content: Any, path: str = "") -> dict[str, Any]:
    """All values that are no dict or list, under their paths in the config: ``{"optimizer#lr": 0.1}``."""
    if not isinstance(content, dict | list):
        return {path: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return {k: v for key, value in items for k, v in flat(value, f"{path}#{key}" if path else str(key)).items()}


def git_state() -> str | None:
    """Commit of this package's working tree, marked where files differ from it; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.check_output(command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
