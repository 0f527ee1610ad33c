# SPDX-License-Identifier: Apache-2.0
"""
Time variants of a network.

Each variant has a process of its own, with its own peak memory. The processes take turns, so that other load of the
machine affects all of them.
"""

import contextlib
import platform
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import monai
import timm
import torch
from common.bundle import read_config
from monai.bundle import ConfigParser
from timm.layers import set_fused_attn
from torch.utils.benchmark import Measurement, Timer
from torch.utils.flop_counter import FlopCounterMode

from unetv2_monai.bfloat16 import has_bfloat16
from unetv2_monai.bundle.run_folder import git_state
from unetv2_monai.core.memory import keep_memory

CUDA = torch.cuda.is_available()
BFLOAT16 = CUDA or has_bfloat16()  # elsewhere it takes many times as long as float32
FEWEST, MOST = 3, 15  # rounds, in which each variant has a turn
TURN = 0.1  # least seconds, after a warm-up pass
ENGINES = {"inference": "evaluator", "training": "train#trainer"}  # keys of the configs
Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A network and what is computed with it, as the bundle's configs define both."""

    work: str = "inference"  # an iteration of inference.json; "training": one of train.json
    overlays: tuple[str, ...] = ()  # files below bundle/configs
    options: Row = field(default_factory=dict)
    released: bool = False  # compute as the released code does, without mixed precision
    threads: int = 0  # of PyTorch; 0: as many as it chooses

    @property
    def files(self) -> list[str]:
        return ["train.json" if self.work == "training" else "inference.json", *self.overlays]


def timed(
    variants: Mapping[str, Variant], shapes: Iterable[tuple[int, int]], seconds: float, **common: Any
) -> list[Row]:
    """
    Time variants in turns, for about ``seconds`` per shape. A shape is the number of images and their side length.

    A row has the median, half the interquartile range, the speed-up relative to the first variant, and the peak memory
    of the process so far. ``common`` are the row's first cells.
    """
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(new_process()) for name in variants}
        for ready in [process.submit(_begin, variants[name]) for name, process in processes.items()]:
            ready.result()
        for batch, size in shapes:
            turns: dict[str, list[Measurement]] = {name: [] for name in processes}
            peaks: dict[str, float] = {}
            begun, rounds = time.perf_counter(), 0
            while rounds < FEWEST or (rounds < MOST and time.perf_counter() - begun < seconds):
                for name, process in processes.items():
                    turn, peaks[name] = process.submit(_turn, batch, size).result()
                    turns[name].append(turn)
                rounds += 1
            found = {name: Measurement.merge(turn)[0] for name, turn in turns.items()}
            first = next(iter(found.values())).median
            for name, one in found.items():
                row = {**common, "batch": batch, "size": size, "path": name, "ms an image": 1000 * one.median / batch}
                row |= {"±": 500 * one.iqr / batch, "speed-up": first / one.median, "peak MB": round(peaks[name])}
                rows.append(row)
    return rows


def new_process() -> ProcessPoolExecutor:
    """Start one process that does not inherit this one's memory."""
    return ProcessPoolExecutor(1, get_context("spawn"))


_prepared: list[Callable[[torch.Tensor], None]] = []  # in a variant's process: the function to time


def _begin(variant: Variant) -> None:
    _prepared.append(prepare(variant))


def _turn(batch: int, size: int) -> tuple[Measurement, float]:
    """Measure one turn. Returns its times and the peak memory of this process so far in MB."""
    names = {"work": _prepared[0], "images": torch.rand(batch, 3, size, size, device="cuda" if CUDA else "cpu")}
    timer = Timer("work(images)", globals=names, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=TURN), torch.cuda.max_memory_allocated() / 1e6 if CUDA else peak()


def prepare(variant: Variant) -> Callable[[torch.Tensor], None]:
    """
    Build the function to time. It takes a batch of images and runs one iteration of the configs' MONAI engine.

    An iteration runs the network, in training also loss and optimiser, but no handlers, metrics or post-processing.
    """
    torch.manual_seed(0)
    set_fused_attn(not variant.released)  # the released code uses matrix products and a softmax
    if variant.threads:
        torch.set_num_threads(variant.threads)
    key, prefix = ENGINES[variant.work], "train" if variant.work == "training" else "val"
    options = {**variant.options, f"{key}#decollate": False, f"{key}#{prefix}_data_loader": []}
    left_out = "postprocessing", f"{prefix}_handlers", f"key_{prefix}_metric", "additional_metrics"
    options |= dict.fromkeys(f"{key}#{name}" for name in left_out)
    if variant.released:
        options |= {f"{key}#amp": False, "network#memory_format": "$torch.contiguous_format"}
    else:
        keep_memory()
    engine = read_config(variant.files, options).get_parsed_content(key)
    engine.scaler = torch.amp.GradScaler("cuda") if engine.amp else None  # as its run() does

    def iterate(images: torch.Tensor) -> None:
        engine._iteration(engine, {"image": images, "label": (images[:, :1] > 0.5).float()})

    return iterate


def peak() -> float:
    """Return the largest resident memory of this process so far in MB."""
    with contextlib.suppress(OSError):  # ru_maxrss would start at the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # without /proc, on macOS, in bytes


def describe() -> Row:
    """Describe the machine that the numbers belong to."""
    processor = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability() + (" with bfloat16" if has_bfloat16() else ""),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "python": platform.python_version(),
        "packages": {package.__name__: package.__version__ for package in (torch, monai, timm)},
        "commit": git_state() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def count(network_def: Row, size: int) -> tuple[int, int]:
    """
    Count the parameters of a network and the multiply-accumulates that an image of ``size x size`` takes.

    The latter are half of what torch.utils.flop_counter counts: convolutions, linear layers and attention products.
    """
    network = ConfigParser({"network": network_def}).get_parsed_content("network").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2
