# SPDX-License-Identifier: Apache-2.0
"""Read the bundle's configs with overlays and options, and run its commands in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from unetv2_monai import InputError, bundle_dir
from unetv2_monai.bundle.options import full_size

ROOT = Path(__file__).resolve().parents[2]  # of the repository; in a wheel, the package
BUNDLE = bundle_dir()
CONFIGS = BUNDLE / "configs"


def read_config(files: Sequence[str], options: Mapping[str, Any] | None = None, folder: Path = CONFIGS) -> ConfigParser:
    """Read a config and its overlays in ``folder``, and apply options last. No object is built."""
    parser = ConfigParser()
    parser.read_config([str(folder / name) for name in files])
    parser.update({"bundle_dir": str(folder.parent), **(options or {})})  # else found only in a running command
    if "image_size" in parser:
        parser["image_size"] = full_size(parser.get())
    return parser


def run_bundle(run_id: str, files: Sequence[str], options: Mapping[str, Any], log: Path) -> float:
    """Run ``python -m monai.bundle run`` to its end, with all output in ``log``. When this process is stopped, so is
    the command. Returns its largest resident memory in MB of 10^6 bytes, which is at least that of this process.

    Raises InputError with its last message when the command fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str([str(CONFIGS / name) for name in files])]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with log.open("w") as opened, subprocess.Popen(command, stdout=opened, stderr=subprocess.STDOUT) as process:
        try:
            _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it returns what this process alone used
        except BaseException:
            process.terminate()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = "\n" + log.read_text().strip()
        _, found, message = text.rpartition("\nerror: ")  # of an InputError; else the end of a traceback
        raise InputError(f"{run_id} failed, see {log}: {message[:2000] if found else text[-2000:]}")
    return float(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)
