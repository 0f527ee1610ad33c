# SPDX-License-Identifier: Apache-2.0
"""The bundle of this repository: its configs with overlays and options, and its commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from unetv2_monai import InputError

__all__ = ["BUNDLE", "CONFIGS", "ROOT", "Duration", "read_config", "run_bundle"]

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundle"
CONFIGS = BUNDLE / "configs"


@dataclass(frozen=True)
class Duration:
    """Seconds that a process took: on the clock, and of CPU time in all its threads."""

    wall: float
    cpu: float


def read_config(files: Sequence[str], options: Mapping[str, Any] | None = None, folder: Path = CONFIGS) -> ConfigParser:
    """
    Args:
        files: a config and its overlays, relative to ``folder``.
        options: applied last, by their keys. Defaults to none.
        folder: of the configs. Defaults to this repository's.

    Returns:
        The config; nothing of it is built yet.
    """
    parser = ConfigParser()
    parser.read_config([str(folder / name) for name in files])
    parser.update({"config_dir": str(folder), **(options or {})})  # no bundle command runs that it could be found by
    return parser


def run_bundle(
    run_id: str,
    files: Sequence[str],
    options: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    processes: int = 0,
    log: Path | None = None,
) -> Duration:
    """
    Run ``python -m monai.bundle run`` to its end.

    Args:
        run_id: such as ``"training"``.
        files: a config and its overlays, relative to the folder of the configs.
        options: of the command line.
        environment: variables beside those of this process. Defaults to none.
        processes: start so many by torchrun. Defaults to 0: one process without it.
        log: a file for all that is printed. Defaults to None: the terminal.

    Raises:
        InputError: when the command fails; with the message that it ended with, if there is a log.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes else []
    command = [sys.executable, "-W", "ignore", *launch, "-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str([str(CONFIGS / name) for name in files])]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    started = time.perf_counter()
    with open(log or os.devnull, "w") as opened:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=opened if log else None,
            stderr=subprocess.STDOUT if log else None,
        )
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, with the CPU time of this process alone
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        where = f"see {log}: {_last_message(log)}" if log else "its messages are above."
        raise InputError(f"{run_id} failed, {where}")
    return Duration(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def _last_message(log: Path) -> str:
    """The message of an InputError, or the end of a traceback."""
    text = "\n" + log.read_text().strip()
    _, found, message = text.rpartition("\nerror: ")
    return message[:2000] if found else text[-2000:]
