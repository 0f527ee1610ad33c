# SPDX-License-Identifier: Apache-2.0
"""segment.py as a function, what it reads and what it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ..conftest import script


def segment(*arguments: object) -> None:
    script("segment").main([str(argument) for argument in arguments])


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def blobs(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
