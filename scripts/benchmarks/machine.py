# SPDX-License-Identifier: Apache-2.0
"""What this machine is and can do, and what a network asks of it."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import monai
import timm
import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from unetv2_monai.bfloat16 import has_bfloat16
from unetv2_monai.bundle.run_folder import git_state

CUDA = torch.cuda.is_available()
BFLOAT16 = CUDA or has_bfloat16()  # elsewhere it takes many times as long as float32
DEVICE = "cuda" if CUDA else "cpu"
Row = dict[str, Any]


def describe() -> Row:
    """What the numbers belong to."""
    name, flags = platform.processor(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            name = value.strip() if key.strip() == "model name" else name
            flags = value if key.strip() == "flags" else flags
    return {
        "processor": name,
        "instructions": [one for one in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if one in flags.split()],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "python": platform.python_version(),
        "packages": {package.__name__: package.__version__ for package in (torch, monai, timm)},
        "commit": git_state() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
        "limits": limits(),
    }


def limits() -> dict[str, float]:
    """
    Measured: matrix products of 2048 x 2048 in 1e9 multiply-accumulates a second by type, copying of 256 MB in 1e9
    bytes a second, read and written; the fastest of ten.
    """
    found = {str(kind).removeprefix("torch."): _multiplications(kind) for kind in (torch.float32, torch.bfloat16)}
    source, target = (torch.zeros(2**26, device=DEVICE) for _ in range(2))
    return {**found, "bandwidth": 2 * source.nbytes / _fastest(lambda: target.copy_(source)) / 1e9}


def _multiplications(kind: torch.dtype) -> float:
    rate = 0.0
    for size in (256, 2048):
        square = torch.rand(size, size, device=DEVICE).to(kind)
        seconds = _fastest(partial(torch.matmul, square, square))
        rate = size**3 / seconds / 1e9
        if seconds > 0.01:  # bfloat16 that the processor does not compute itself: the large one would take 25 s
            break
    return rate


def _fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        work()
        if CUDA:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def count(network_def: Row, size: int) -> tuple[int, int, int]:
    """
    Args:
        network_def: as in a config.
        size: height and width of the image.

    Returns:
        Parameters; multiply-accumulates of an image (half of what torch.utils.flop_counter counts: convolutions, linear
        layers and attention products); bytes of weights read once and of activations written and read once.
    """
    network = ConfigParser({"network": network_def}).get_parsed_content("network").eval()
    moved = [sum(parameter.nbytes for parameter in network.parameters())]

    def note(module: torch.nn.Module, inputs: object, output: object) -> None:
        moved.append(2 * output.nbytes if isinstance(output, torch.Tensor) else 0)

    for module in network.modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2, sum(moved)


def floor(network_def: Row, size: int, here: Row, kind: str = "float32") -> float:
    """Seconds of one image at the limits of this machine: of arithmetic or of memory, whichever takes longer."""
    _, macs, moved = count(network_def, size)
    scale = 0.5 if kind == "bfloat16" else 1.0
    return max(macs / here["limits"][kind], scale * moved / here["limits"]["bandwidth"]) / 1e9


def show(title: str, rows: Sequence[Row]) -> None:
    """A table in Markdown."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(_cell(row.get(column, '-')) for column in columns)} |", flush=True)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
