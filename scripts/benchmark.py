#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure speed, memory and size of the network on this machine. Do not use the machine for anything else meanwhile.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # larger images and batches, both encoders
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Each table is printed when it is done. --output_dir gets benchmark.json: all numbers, the machine, the commit.

Variants take turns, each in a process of its own, so that other load of the machine affects all of them;
torch.utils.benchmark times them. Times are medians, ± half the interquartile range. The speed-up is relative to
"released": this network, computed as the released code computes it (weights in NCHW, attention as matrix products and a
softmax, glibc's default malloc). With a GPU, all run on it, "released" in float32.
"""

import contextlib
import json
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import monai
import timm
import torch
from common.bundle import read_config
from common.command import new_parser, run
from common.pages import markdown
from monai.bundle import ConfigParser
from timm.layers import set_fused_attn
from torch.utils.benchmark import Measurement, Timer
from torch.utils.flop_counter import FlopCounterMode

from unetv2_monai.bfloat16 import has_bfloat16
from unetv2_monai.bundle.run_folder import git_state
from unetv2_monai.core.files import write_atomic
from unetv2_monai.core.memory import keep_memory

CUDA = torch.cuda.is_available()
BFLOAT16 = CUDA or has_bfloat16()  # elsewhere it takes many times as long as float32
ROUNDS = 5  # in which each variant has a turn
TURN = 0.5  # least seconds of one, after a warm-up
DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
FAST = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
COUNTED: dict[str, dict[str, Any]] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b2": {"backbone": "pvt_v2_b2"},
    "b2 without SDI": {"backbone": "pvt_v2_b2", "sdi": False},
    "b2, interpolation": {"backbone": "pvt_v2_b2", "upsample": "interp"},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}
Row = dict[str, Any]
Table = tuple[str, list[Row]]  # its title and rows


class Variant(NamedTuple):
    """A network and what is computed with it, as the bundle's configs define both."""

    work: str = "inference"  # an iteration of inference.json; "training": one of train.json
    overlays: tuple[str, ...] = ()  # files below bundle/configs
    options: Mapping[str, Any] = {}
    released: bool = False  # compute as the released code does, without mixed precision


def inference(full: bool) -> Iterator[Table]:
    """Time a forward pass of inference.json."""
    shapes = [(1, 256), (1, 352), (8, 352), (1, 1024)] if full else [(1, 352), (8, 352)]
    for backbone in BACKBONES:
        default = Variant(options={"backbone": backbone})
        variants = {"released": default._replace(released=True), "default": default}
        if BFLOAT16:
            variants["bfloat16"] = default._replace(overlays=("options/inference_bf16.yaml",))
        yield f"Inference, {backbone}", timed(variants, shapes, network=backbone)


def training(full: bool) -> Iterator[Table]:
    """Time a step of train.json: forward, loss, backward, optimiser."""
    shapes = [(16, 352)] if CUDA else [(16, 256)] if full else [(4, 256)]
    for backbone in BACKBONES if full else (DEFAULT,):
        default = Variant("training", options={"backbone": backbone})
        variants = {"released": default._replace(released=True), "default": default}
        variants["recommended"] = default._replace(overlays=("recipes/recommended.yaml",))
        if BFLOAT16:
            variants[FAST] = default._replace(overlays=(FAST,))
        if full:
            again = {**default.options, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = default._replace(options=again)
        yield f"A training step, {backbone}", timed(variants, shapes, network=backbone)


def counts(full: bool) -> Iterator[Table]:
    """Count parameters and multiply-accumulates of our variants; nothing is timed."""
    rows = []
    for name, arguments in COUNTED.items():
        parameters, macs = count({"_target_": "unetv2_monai.UNetV2", **arguments}, 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    yield "Variants at 256 x 256", rows


PARTS = {"inference": inference, "training": training, "counts": counts}


def count(network_def: Row, size: int) -> tuple[int, int]:
    """
    Count the parameters of a network and the multiply-accumulates that an image of ``size x size`` takes.

    The latter are half of what torch.utils.flop_counter counts: convolutions, linear layers and attention products.
    """
    network = ConfigParser({"network": network_def}).get_parsed_content("network").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def timed(variants: Mapping[str, Variant], shapes: Sequence[tuple[int, int]], **common: Any) -> list[Row]:
    """
    Time variants in turns. A shape is the number of images and their side length.

    A row has the median, half the interquartile range, the speed-up relative to the first variant, and the peak memory
    of the process so far. ``common`` are the row's first cells.
    """
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _begin, (variant,)))
            for name, variant in variants.items()
        }
        for batch, size in shapes:
            turns: dict[str, list[Measurement]] = {name: [] for name in variants}
            for _ in range(ROUNDS):
                for name, process in processes.items():
                    turns[name].append(process.submit(_turn, batch, size).result())
            merged = {name: Measurement.merge(turn)[0] for name, turn in turns.items()}
            first = next(iter(merged.values())).median
            for name, one in merged.items():
                row = {**common, "batch": batch, "size": size, "path": name, "ms an image": 1000 * one.median / batch}
                row |= {"±": 500 * one.iqr / batch, "speed-up": first / one.median}
                rows.append({**row, "peak MB": processes[name].submit(_peak_mb).result()})
    return rows


_prepared: list[Callable[[torch.Tensor], None]] = []  # in a variant's process: the function to time


def _begin(variant: Variant) -> None:
    _prepared.append(prepare(variant))


def _turn(batch: int, size: int) -> Measurement:
    names = {"work": _prepared[0], "images": torch.rand(batch, 3, size, size, device="cuda" if CUDA else "cpu")}
    timer = Timer("work(images)", globals=names, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=TURN)


def _peak_mb() -> int:
    """Return the largest memory of this process so far, on the GPU if there is one."""
    if CUDA:
        return torch.cuda.max_memory_allocated() // 10**6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6


def prepare(variant: Variant) -> Callable[[torch.Tensor], None]:
    """
    Build the function to time. It takes a batch of images and runs one iteration of the configs' MONAI engine.

    An iteration runs the network, in training also loss and optimiser, but no handlers, metrics or post-processing.
    """
    torch.manual_seed(0)
    set_fused_attn(not variant.released)  # the released code uses matrix products and a softmax
    if variant.work == "training":
        file, key, prefix = "train.json", "train#trainer", "train"
    else:
        file, key, prefix = "inference.json", "evaluator", "val"
    left_out = "postprocessing", f"{prefix}_handlers", f"key_{prefix}_metric", "additional_metrics"
    options = {**variant.options, f"{key}#decollate": False, f"{key}#{prefix}_data_loader": []}
    options |= dict.fromkeys(f"{key}#{name}" for name in left_out)
    if variant.released:
        options |= {f"{key}#amp": False, "network#memory_format": "$torch.contiguous_format"}
    else:
        keep_memory()
    engine = read_config([file, *variant.overlays], options).get_parsed_content(key)
    engine.scaler = torch.amp.GradScaler("cuda") if engine.amp else None  # as its run() does

    def iterate(images: torch.Tensor) -> None:
        engine._iteration(engine, {"image": images, "label": (images[:, :1] > 0.5).float()})

    return iterate


def describe() -> Row:
    """Describe the machine that the numbers belong to."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return {
        "processor": names[0] if names else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() + (" with bfloat16" if has_bfloat16() else ""),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "python": platform.python_version(),
        "packages": {package.__name__: package.__version__ for package in (torch, monai, timm)},
        "commit": git_state() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def cell(value: object) -> str:
    """Write a number with two decimals, or as a whole number from 100 on."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="measure more variants and sizes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--output_dir", type=Path, default=Path("output/benchmark"), help="default: output/benchmark")
    arguments = parser.parse_args(argv)

    file, machine = arguments.output_dir / "benchmark.json", describe()
    print(json.dumps(machine, indent=1))
    found = json.loads(file.read_text()) if file.is_file() else {}  # parts of an earlier call are kept
    for name in arguments.parts:
        found[name] = {"machine": machine, "full": arguments.full, "rows": []}
        for title, rows in PARTS[name](arguments.full):
            shown = [{key: cell(value) for key, value in row.items()} for row in rows]
            print(f"\n### {title}\n\n{markdown(shown)}", flush=True)
            found[name]["rows"] += rows
            write_atomic(file, json.dumps(found, indent=1) + "\n")
    print(f"\nall numbers: {file}")


if __name__ == "__main__":
    run(main, quiet=True)
