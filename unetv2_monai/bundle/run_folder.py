# SPDX-License-Identifier: Apache-2.0
"""Prepare the folder of a run, and record what was run in it."""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple, set_determinism

from ..core.errors import InputError, unwrapped
from ..core.files import refusing, write_atomic
from ..data.image_list import list_images
from .context import KEYS, running_config

logger = logging.getLogger(__name__)

PACKAGES = ("monai", "torch", "timm", "pytorch-ignite", "numpy", "nibabel", "pillow")


def start_run(
    output_dir: str,
    ckpt_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    deterministic: bool = True,
) -> None:
    """Prepare the folder of a run, and seed all random number generators.

    ``ckpt_dir`` is the folder of the run's checkpoints; the other arguments are options of train.json. Each process
    adds its rank to ``seed``.

    Raises:
        InputError: when the folder holds another run or cannot be made, or when the run to resume is missing or was
            begun with other options.
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
        advice = "Go on with it by --resume true, replace it by --overwrite true, or name another --output_dir."
        raise InputError(f"{output_dir} holds a run already. {advice}")
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def check_checkpoint(path: Path) -> None:
    """Refuse to resume from a file that is missing or is not a checkpoint of a run."""
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
    """Refuse to resume the run in ``run.json`` with other options than it was begun with."""
    before, now = flat(json.loads(path.read_text())["config"]), flat(running_config())
    differs = [
        f"{key} {before.get(key)!r}, now {now.get(key)!r}"
        for key in {**before, **now}
        if key.split("#")[0] not in KEYS["resumable"] and str(before.get(key)) != str(now.get(key))
    ]
    if differs:
        more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
        raise InputError(
            f"the run in {path.parent} was begun with {'; '.join(differs[:5])}{more}. Resume it with the options that "
            "it was begun with, or name another --output_dir for a new run."
        )
    old, new = (config.get("max_epochs") for config in (before, now))
    if old != new:
        logger.warning(f"max_epochs was {old} and is now {new}: from here on the learning rate follows its schedule.")


def record_start(path: Path, config: dict[str, Any], resumed: bool) -> None:
    """Write the config and a record of this start to ``run.json``. A resumed run keeps records of earlier starts."""
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


def pairs_of_run(config: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """List the pairs of a config in run.json again; raise InputError if they are no longer there."""
    parser = ConfigParser({**config, "check_data": False})
    if isinstance(parser.get("datalist#folds"), dict):
        parser["datalist#folds#divide"] = False
    with unwrapped():
        return parser.get_parsed_content("datalist")


def trained_among(images: Iterable[str], run: Path) -> set[str]:
    """Return the images that a run trained on, with or without a mask; none without a run or its data."""
    if not (run / "run.json").is_file():
        return set()
    config = json.loads((run / "run.json").read_text())["config"]
    try:
        pairs = pairs_of_run(config)["training"]
        if more := config.get("more_images"):  # options/distil.yaml
            pairs += list_images(more, check=False)
    except InputError:
        return set()
    return {os.path.realpath(ensure_tuple(item["image"])[0]) for item in pairs} & {*map(os.path.realpath, images)}


def flat(content: Any, path: str = "") -> dict[str, Any]:
    """Return a config's values by their paths, such as ``{"optimizer#lr": 0.1}``. A list of numbers is one value."""
    if not isinstance(content, dict | list):
        return {path: content}
    if path and not any(isinstance(one, dict | list | str) for one in content):
        return {path: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    parts = {f"{path}#{key}" if path else str(key): value for key, value in items if key != "_desc_"}
    return {k: v for key, value in parts.items() for k, v in flat(value, key).items()}


def git_state() -> str | None:
    """Return the git commit of this package, with ``-dirty`` if files differ from it; None outside of a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.check_output(command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
