# SPDX-License-Identifier: Apache-2.0
"""The folder of a run, and what was run in it."""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.utils import set_determinism

from ..core.errors import InputError
from ..core.files import write_atomic
from .context import running_config

__all__ = ["record_start", "start_run"]

logger = logging.getLogger(__name__)

# what a resumed run may have otherwise than before: where and how it runs, not what is trained
FREE = {
    *("bundle_root", "bundle_dir", "dataset_dir", "output_dir", "ckpt_dir", "log_dir", "check_data", "cache_rate"),
    *("num_workers", "compile", "deterministic", "overwrite", "resume", "device", "val_interval", "max_epochs"),
    *("max_hours", "time_limit", "initialize"),
}
PACKAGES = ("monai", "torch", "timm", "pytorch-ignite", "numpy", "nibabel", "pillow")


def start_run(
    output_dir: str,
    ckpt_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    deterministic: bool = True,
) -> None:
    """
    Take a folder for one run, and seed all random numbers.

    Args:
        output_dir: of the run; made if need be.
        ckpt_dir: of its checkpoints.
        resume: the run in it goes on. Defaults to False.
        overwrite: start anew where there is a run. Defaults to False.
        seed: each process adds its rank. Defaults to 0.
        deterministic: cuDNN computes the same every time, instead of choosing its fastest kernels. Defaults to True.

    Raises:
        InputError: when the folder has another run's checkpoint, or cannot be made; when a run to resume is not there,
            or was begun with other options.
    """
    rank = int(os.environ.get("RANK", 0))
    set_determinism(seed=seed + rank)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    path, last = Path(output_dir) / "run.json", Path(ckpt_dir) / "last.pt"
    if resume:
        check_checkpoint(last)
    if rank > 0:
        return
    if resume and path.exists():
        refuse_other_options(path)
    if not (resume or overwrite) and path.exists() and last.exists():
        raise InputError(
            f"{output_dir} holds a run already. Go on with it by --resume true, name another --output_dir, or "
            "replace it by --overwrite true."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output_dir} cannot be written ({error}). Set --output_dir to another folder.") from error


def check_checkpoint(path: Path) -> None:
    """Refuse to resume from a file that is missing, or is no checkpoint."""
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


def refuse_other_options(path: Path) -> None:
    """Refuse to go on with the run in ``run.json`` by other options than it was begun with."""
    before, now = flat(json.loads(path.read_text())["config"]), flat(running_config())
    differs = [
        f"{key} {before.get(key)!r}, now {now.get(key)!r}"
        for key in {**before, **now}
        if key.split("#")[0] not in FREE and str(before.get(key)) != str(now.get(key))
    ]
    if differs:
        more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
        raise InputError(
            f"the run in {path.parent} was begun with {'; '.join(differs[:5])}{more}. Resume it with the options that "
            "it was begun with, or name another --output_dir for a new run."
        )
    if before.get("max_epochs") != now.get("max_epochs"):
        logger.warning(
            f"max_epochs was {before.get('max_epochs')} and is now {now.get('max_epochs')}: from here on the learning "
            "rate follows the schedule of the new number."
        )


def record_start(path: Path, config: dict[str, Any], resumed: bool) -> None:
    """Note in ``run.json`` the command, versions, git state and config of a start; if resumed, beside earlier ones."""
    starts = json.loads(path.read_text())["starts"] if resumed and path.exists() else []
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "git": git_state(),
    }
    content = {"starts": [*starts, start], "config": config}
    write_atomic(path, json.dumps(content, indent=1, default=str) + "\n")


def flat(content: Any, path: str = "") -> dict[str, Any]:
    """Values, and lists of numbers, under their paths in the config: ``{"optimizer#lr": 0.1}``."""
    if not isinstance(content, dict | list):
        return {path: content}
    if path and not any(isinstance(one, dict | list | str) for one in content):
        return {path: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    parts = {f"{path}#{key}" if path else str(key): value for key, value in items if key != "_desc_"}
    return {k: v for key, value in parts.items() for k, v in flat(value, key).items()}


def git_state() -> str | None:
    """Commit of this package's working tree, marked where files differ from it; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.check_output(command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
