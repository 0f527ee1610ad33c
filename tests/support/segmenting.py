# SPDX-License-Identifier: Apache-2.0
"""segment.py as a function and as a program, what it reads and what it writes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ..conftest import ROOT, script


def segment(*arguments: object) -> None:
    command = script("segment")
    command.run(lambda: command.main([str(argument) for argument in arguments]))


def segment_apart(*arguments: object, before: str = "", after: str = "") -> subprocess.CompletedProcess:
    """In a process of its own, with lines of Python before and after it."""
    code = f"import sys; sys.path.insert(0, 'scripts'); import segment\n{before}\nsegment.run(segment.main)\n{after}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def blobs(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def draw_cases(folder: Path, count: int) -> Path:
    """``case_0.png`` and so on, of 40 x 30 pixels."""
    folder.mkdir()
    for index in range(count):
        blobs(40, 30, index).save(folder / f"case_{index}.png")
    return folder
