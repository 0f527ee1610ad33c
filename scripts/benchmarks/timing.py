# SPDX-License-Identifier: Apache-2.0
"""
Times of variants of a network, each in a process of its own, and what this machine could do at best.

A process of its own gives every variant its own memory, with its own peak. The processes take turns, so that other load
of the machine falls on all of them.
"""

from __future__ import annotations

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
DEVICE = "cuda" if CUDA else "cpu"
FEWEST, MOST = 3, 15  # rounds of turns
TURN = 0.1  # seconds at least, after a pass to warm up
# As the released code computes: weights in NCHW, attention as matrix products with a softmax, glibc's usual memory.
RELEASED_OPTIONS = {"network#memory_format": "$torch.contiguous_format"}
RELEASED_ENVIRONMENT = {"TIMM_FUSED_ATTN": "0"}
ENGINES = {"inference": "evaluator", "training": "train#trainer"}  # keys of the configs
Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """
    A network and what is computed with it, as the bundle's configs define both.

    Args:
        work: ``"inference"``, an iteration of inference.json, or ``"training"``, one of train.json.
        overlays: files below ``bundle/configs``.
        options: keys of the config, by their path.
        released: compute as the released code does, without mixed precision.
        threads: that PyTorch computes with. Defaults to 0: as many as it chooses.
    """

    work: str = "inference"
    overlays: tuple[str, ...] = ()
    options: Row = field(default_factory=dict)
    released: bool = False
    threads: int = 0

    @property
    def files(self) -> list[str]:
        return ["train.json" if self.work == "training" else "inference.json", *self.overlays]

    @property
    def all_options(self) -> Row:
        own = {**RELEASED_OPTIONS, f"{ENGINES[self.work]}#amp": False} if self.released else {}
        return {**own, **self.options}


def timed(
    variants: Mapping[str, Variant], shapes: Iterable[tuple[int, int]], seconds: float, **common: Any
) -> list[Row]:
    """
    Time variants, which take turns, each in a process of its own.

    Args:
        variants: by name.
        shapes: number of images, and their height and width.
        seconds: about how long each shape may take; at least three rounds of turns are made.
        common: first cells of every row.

    Returns:
        A row for every shape and variant: median, half the distance of the quartiles, speed-up against the first
        variant, and the largest memory of the process so far.
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
    """Start one process, without the memory of this one."""
    return ProcessPoolExecutor(1, get_context("spawn"))


_prepared: list[Callable[[torch.Tensor], None]] = []  # in the process of a variant: its work


def _begin(variant: Variant) -> None:
    _prepared.append(prepare(variant))


def _turn(batch: int, size: int) -> tuple[Measurement, float]:
    """Measure one turn. Returns its times and the largest memory of this process so far in MB."""
    names = {"work": _prepared[0], "images": torch.rand(batch, 3, size, size, device=DEVICE)}
    timer = Timer("work(images)", globals=names, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=TURN), torch.cuda.max_memory_allocated() / 1e6 if CUDA else peak()


def prepare(variant: Variant) -> Callable[[torch.Tensor], None]:
    """
    Build what the configs run.

    Args:
        variant: the configs and how they are computed.

    Returns:
        A function of a batch of images. It runs one iteration of MONAI's engine with the network, and in training with
        the loss and the optimiser; handlers, metrics and post-processing are left out.
    """
    torch.manual_seed(0)
    set_fused_attn(not variant.released)
    if variant.threads:
        torch.set_num_threads(variant.threads)
    key, prefix = ENGINES[variant.work], "train" if variant.work == "training" else "val"
    left_out: Row = {
        "postprocessing": None,
        f"{prefix}_handlers": None,
        f"key_{prefix}_metric": None,
        "decollate": False,
    }
    left_out |= {"additional_metrics": None, f"{prefix}_data_loader": []}
    parser = read_config(variant.files, variant.all_options | {f"{key}#{name}": left_out[name] for name in left_out})
    if not variant.released:
        keep_memory()
    engine = parser.get_parsed_content(key)
    engine.scaler = torch.amp.GradScaler("cuda") if engine.amp else None  # as its run() does

    def iterate(images: torch.Tensor) -> None:
        engine._iteration(engine, {"image": images, "label": (images[:, :1] > 0.5).float()})

    return iterate


def peak() -> float:
    """Return the largest resident memory of this process so far in MB."""
    with contextlib.suppress(OSError):  # ru_maxrss would start at the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


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
        "limits": limits(),
    }


def limits() -> dict[str, float]:
    """
    Measure what this machine can do at best.

    Returns:
        1e9 multiply-accumulates a second in matrix products of each type, and 1e9 bytes a second, read and written,
        when 256 MB are copied.
    """

    def fastest(statement: str, **names: torch.Tensor) -> float:
        timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
        return min(timer.blocked_autorange(min_run_time=0.5).times)

    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        size = 2048 if kind is torch.float32 or BFLOAT16 else 256  # the large one would take 25 s
        found[name] = size**3 / fastest("a @ a", a=torch.rand(size, size, device=DEVICE).to(kind)) / 1e9
    source, target = (torch.zeros(2**26, device=DEVICE) for _ in range(2))
    return {**found, "bandwidth": 2 * source.nbytes / fastest("b.copy_(a)", a=source, b=target) / 1e9}


def count(network_def: Row, size: int) -> tuple[int, int, int]:
    """
    Count what one image takes.

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
    """Return the least seconds that this machine could take for an image: by arithmetic or by memory bandwidth."""
    _, macs, moved = count(network_def, size)
    scale = 0.5 if kind == "bfloat16" else 1.0
    return max(macs / here["limits"][kind], scale * moved / here["limits"]["bandwidth"]) / 1e9
