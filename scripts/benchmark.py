#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure speed, memory and size of the network on this machine. Do not use the machine for anything else meanwhile.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # larger images and batches, both encoders
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Each table is printed when it is done. --output_dir gets benchmark.json: all numbers, the machine, the commit.

Variants take turns, each in a process of its own; torch.utils.benchmark times them. Times are medians, ± half the
interquartile range. The speed-up is relative to "released": this network, computed as the released code computes it
(weights in NCHW, attention as matrix products and a softmax, glibc's default malloc). With a GPU, all run on it,
"released" in float32.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import BFLOAT16, CUDA, Row, Variant, count, describe, timed
from common.bundle import read_config
from common.command import new_parser, run
from common.pages import markdown

from unetv2_monai.core.files import write_atomic

DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
FAST = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
COUNTED: dict[str, Row] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b2": {"backbone": "pvt_v2_b2"},
    "b2 without SDI": {"backbone": "pvt_v2_b2", "sdi": False},
    "b2, interpolation": {"backbone": "pvt_v2_b2", "upsample": "interp"},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}
Table = tuple[str, list[Row]]  # its title and rows


def counts(full: bool) -> Iterator[Table]:
    """Count parameters and multiply-accumulates of our variants; nothing is timed."""
    rows = []
    for name, arguments in COUNTED.items():
        parameters, macs = count({"_target_": "unetv2_monai.UNetV2", **arguments}, 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    yield "Variants at 256 x 256", rows


def inference(full: bool) -> Iterator[Table]:
    """Time a forward pass of inference.json."""
    shapes = [(1, 256), (1, 352), (8, 352), (1, 1024)] if full else [(1, 352), (8, 352)]
    for backbone in BACKBONES:
        default = Variant(options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        if BFLOAT16:
            variants["bfloat16"] = replace(default, overlays=("options/inference_bf16.yaml",))
        yield f"Inference, {backbone}", timed(variants, shapes, network=backbone)


def training(full: bool) -> Iterator[Table]:
    """Time a step of train.json: forward, loss, backward, optimiser."""
    shapes = [(16, 352)] if CUDA else [(16, 256)] if full else [(4, 256)]
    for backbone in BACKBONES if full else (DEFAULT,):
        default = Variant("training", options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        variants["recommended"] = replace(default, overlays=("recipes/recommended.yaml",))
        if BFLOAT16:
            variants[FAST] = replace(default, overlays=(FAST,))
        if full:
            again = {**default.options, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = replace(default, options=again)
        yield f"A training step, {backbone}", timed(variants, shapes, network=backbone)


PARTS = {"inference": inference, "training": training, "counts": counts}


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
