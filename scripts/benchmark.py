#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure the speed of the network on this machine. Do not use the machine for anything else meanwhile.

    python scripts/benchmark.py                       # minutes: an image, a batch and a training step
    python scripts/benchmark.py --backbone pvt_v2_b2  # of another encoder
    python scripts/benchmark.py --counts              # parameters and multiply-accumulates, nothing timed

Variants take turns, so that other load of the machine affects all of them; torch.utils.benchmark times them. Times are
medians, ± half the interquartile range. The speed-up is relative to "released": this network, computed as the released
code computes it (weights in NCHW, attention as matrix products and a softmax). With a GPU, all run on it, "released" in
float32.
"""

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from unetv2_monai.core.memory import keep_memory

CUDA = torch.cuda.is_available()
ROUNDS = 5  # in which each variant has a turn
TURN = 0.5  # least seconds of one, after a warm-up
SHAPES = {"inference": ((1, 352), (8, 352)), "training": ((16, 352),) if CUDA else ((4, 256),)}  # batch and side length
COUNTED: dict[str, dict[str, Any]] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b2": {"backbone": "pvt_v2_b2"},
    "b2 without SDI": {"backbone": "pvt_v2_b2", "sdi": False},
    "b2, interpolation": {"backbone": "pvt_v2_b2", "upsample": "interp"},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}


class Variant(NamedTuple):
    """A network and what is computed with it, as the bundle's configs define both."""

    work: str = "inference"  # an iteration of inference.json; "training": one of train.json
    overlays: tuple[str, ...] = ()  # files below bundle/configs
    options: Mapping[str, Any] = {}
    released: bool = False  # compute as the released code does, without mixed precision


def variants_of(work: str, backbone: str) -> dict[str, Variant]:
    """Return what is timed; bfloat16 only where it is no slower than float32."""
    default = Variant(work, options={"backbone": backbone})
    found = {"released": default._replace(released=True), "default": default}
    if work == "training":
        found["recommended"] = default._replace(overlays=("recipes/recommended.yaml",))
        if CUDA:
            found["gpu_fast"] = default._replace(overlays=("options/gpu_fast.yaml",))
    elif has_bfloat16() and not CUDA:
        found["bfloat16"] = default._replace(overlays=("options/inference_bf16.yaml",))
    return found


def count(network_def: Mapping[str, Any], size: int) -> tuple[int, int]:
    """
    Count the parameters of a network and the multiply-accumulates that an image of ``size x size`` takes.

    The latter are half of what torch.utils.flop_counter counts: convolutions, linear layers and attention products.
    """
    network = ConfigParser({"network": dict(network_def)}).get_parsed_content("network").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def timed(variants: Mapping[str, Variant], shapes: Sequence[tuple[int, int]]) -> list[dict[str, str]]:
    """Time variants in turns: a row for each shape, a batch of images and their side length, and each variant."""
    works, rows = {name: prepare(variant) for name, variant in variants.items()}, []
    for batch, size in shapes:
        names = {"images": torch.rand(batch, 3, size, size, device="cuda" if CUDA else "cpu")}
        timers = {
            name: Timer("work(images)", globals={**names, "work": work}, num_threads=torch.get_num_threads())
            for name, work in works.items()
        }
        turns: dict[str, list[Measurement]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, timer in timers.items():
                turns[name].append(timer.blocked_autorange(min_run_time=TURN))
        merged = {name: Measurement.merge(turn)[0] for name, turn in turns.items()}
        first = next(iter(merged.values())).median
        for name, one in merged.items():
            row = {
                "batch": str(batch),
                "size": str(size),
                "path": name,
                "ms an image": f"{1000 * one.median / batch:.1f}",
            }
            rows.append({**row, "±": f"{500 * one.iqr / batch:.1f}", "speed-up": f"{first / one.median:.2f}"})
    return rows


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
    engine = read_config([file, *variant.overlays], options).get_parsed_content(key)
    engine.scaler = torch.amp.GradScaler("cuda") if engine.amp else None  # as its run() does

    def iterate(images: torch.Tensor) -> None:
        engine._iteration(engine, {"image": images, "label": (images[:, :1] > 0.5).float()})

    return iterate


def machine() -> str:
    """Describe the machine that the numbers belong to, in a line."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    processor = f"{names[0] if names else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
    used = torch.cuda.get_device_name() if CUDA else f"{torch.get_num_threads()} threads of {processor}"
    return f"{used}; torch {torch.__version__}; commit {git_state() or 'unknown'}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    default = read_config(["inference.json"])["backbone"]
    parser.add_argument("--backbone", default=default, help=f"default: {default}")
    parser.add_argument("--counts", action="store_true", help="count parameters and multiply-accumulates instead")
    arguments = parser.parse_args(argv)
    if arguments.counts:
        counted = {name: count({"_target_": "unetv2_monai.UNetV2", **own}, 256) for name, own in COUNTED.items()}
        rows = [
            {"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs, 256 x 256": f"{macs / 1e9:.3f}"}
            for name, (parameters, macs) in counted.items()
        ]
        print(markdown(rows))
        return
    keep_memory()
    print(machine())
    for work, shapes in SHAPES.items():
        print(f"\n### {work}, {arguments.backbone}\n\n{markdown(timed(variants_of(work, arguments.backbone), shapes))}")


if __name__ == "__main__":
    run(main, quiet=True)
