# SPDX-License-Identifier: Apache-2.0
"""A training step of the default network on a CPU: what it spends its time on, and what makes it faster."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from .machine import BFLOAT16, Row, show
from .stopwatch import Variant, prepare, start

RECIPE = ("recipes/recommended.yaml",)
SIZE, BATCH, STEPS = 256, 16, 3
BACKWARD = "aten::convolution_backward"
CONVOLUTIONS = {"aten::mkldnn_convolution": 1, BACKWARD: 2, "aten::_convolution": 1}  # which input is the weight
KINDS = {
    "batch norm": r"aten::native_batch_norm",
    "activations": r"aten::(hardtanh|clamp|relu|sigmoid)",
    "copies and padding": r"aten::(copy_|fill_|zero_|cat|constant_pad)",
    "resizing and pooling": r"aten::(upsample|avg_pool|.*adaptive)",
    "optimiser": r"Optimizer.step|aten::(mm|addmm|_foreach|_fused)",
}


def variants(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """The recommended recipe, its step computed in several ways."""
    batches = (8, 16, 32) if full else (16,)
    ways = {
        "float32": Variant("training", RECIPE),
        "one thread": Variant("training", RECIPE, threads=1),
        "--compile true": Variant("training", RECIPE, {"compile": True}),
    }
    if BFLOAT16:
        ways["options/bf16_cpu.yaml"] = Variant("training", (*RECIPE, "options/bf16_cpu.yaml"))
    else:
        ways["Muon in bfloat16"] = Variant("training", RECIPE, {"fast_muon#_disabled_": True})
    rows: list[Row] = []
    with start(ways) as workers:
        for batch in batches:
            timings = workers.take_turns(batch, SIZE, 60)
            for name, timing in timings.items():
                row = {"way": name, "batch": batch, "ms an image": 1000 * timing.median / batch}
                row |= {"±": 1000 * timing.spread / batch, "speed-up": timings["float32"].median / timing.median}
                rows.append({**row, "peak MB": round(timing.peak)})
    show(f"A training step of the default network at {SIZE} x {SIZE}", rows)
    yield rows


def shares(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Time of a step by kind of operation, from PyTorch's profiler, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step, images = prepare(Variant("training", RECIPE)), torch.rand(BATCH, 3, SIZE, SIZE)
        for _ in range(3):
            step(images)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            for _ in range(STEPS):
                step(images)
    finally:
        torch.set_num_threads(threads)
    spent: Counter[str] = Counter()
    for event in found.key_averages(group_by_input_shape=True):
        spent[kind_of(event.key, event.input_shapes)] += event.self_cpu_time_total / 1000 / STEPS / BATCH
    total = sum(spent.values())
    rows: list[Row] = [
        {"operation": kind, "ms an image": spent[kind], "share": spent[kind] / total}
        for kind in sorted(spent, key=lambda kind: -spent[kind])
    ]
    show(f"Where a step of {BATCH} images of {SIZE} x {SIZE} spends its time, {total:.0f} ms an image", rows)
    yield rows


def kind_of(operation: str, shapes: list[Any]) -> str:
    """
    Args:
        operation: its name in PyTorch's profiler.
        shapes: of its inputs; empty for those that are no tensors.

    Returns:
        The row of the table that it counts to.
    """
    if operation in CONVOLUTIONS:
        tensors = [shape for shape in shapes if shape]
        weight = tensors[CONVOLUTIONS[operation]]
        depthwise = weight[1] == 1 and weight[0] > 1
        form = "depthwise" if depthwise else "1x1" if weight[2:] == [1, 1] else "other"
        return f"{form} convolutions, {'backward' if operation == BACKWARD else 'forward'}"
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, operation)), "everything else")
