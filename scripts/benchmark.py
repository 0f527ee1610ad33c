#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Speed, memory and size of the network on this machine, beside its exports and other networks.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # about an hour: all of docs/performance.md but the masks
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Tables are printed as they are done; --output_dir gets benchmark.json (all numbers, the machine, the commit) and
benchmark.png. Leave the machine alone meanwhile. Variants take turns, each in a process of its own; times are medians,
± half the distance of the quartiles; speed-up is against "released", this network computed as the released code
computes (weights in NCHW, attention as products and softmax, glibc's usual memory). The floor of "x floor" is the time
of the multiply-accumulates at the measured rate of large matrix products, or of moving weights and activations once at
the measured bandwidth, whichever is longer. With a GPU all but the exports run there, "released" in float32.

With --images nothing is timed: the masks of every path are compared with plain PyTorch's, with the shipped weights or
other ones of pvt_v2_b0 (--checkpoint).
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import commands, networks
from benchmarks.machine import Row, describe

from unetv2_monai import InputError
from unetv2_monai.files import write_atomic

PARTS: dict[str, Callable[[bool, Path, Row], Iterator[list[Row]]]] = {
    "inference": networks.inference,
    "training": networks.training,
    "peers": networks.peers,
    "sizes": networks.sizes,
    "commands": commands.commands,
    "data": commands.data,
    "processes": commands.processes,
    "counts": networks.counts,
}
SHORT = ("inference", "training", "sizes", "commands", "data")


def draw(parts: dict[str, list[Row]], path: Path) -> None:
    """Speed-up of the paths, and the time of other networks to ours, where they were measured."""
    import matplotlib.pyplot as plt

    bars: list[tuple[str, list[str], list[float]]] = []
    for row in parts.get("inference", []):
        title = f"speed-up, {row['network']}, {row['size']} px, batch {row['batch']}"
        if row["size"] == 352:
            if not bars or bars[-1][0] != title:
                bars.append((title, [], []))
            bars[-1][1].append(row["path"])
            bars[-1][2].append(row["speed-up"])
    if peers := parts.get("peers"):
        bars.append(
            ("time of one image to ours", [r["network"] for r in peers], [r["prepared, to ours"] for r in peers])
        )
    if not bars:
        return
    figure, axes = plt.subplots(len(bars), 1, figsize=(8, 2.4 * len(bars)), layout="constrained", squeeze=False)
    for axis, (title, names, values) in zip(axes[:, 0], bars):
        axis.barh(names[::-1], values[::-1])
        axis.set_title(title)
        axis.axvline(1, color="grey", linewidth=1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    write_atomic(path, buffer.getvalue())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all sizes, exports, networks and rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help=f"default: {' '.join(SHORT)}; with --full all")
    parser.add_argument("--output_dir", type=Path, default=Path("output/benchmark"), help="default: output/benchmark")
    parser.add_argument("--images", type=Path, help="compare the masks of these images")
    parser.add_argument("--checkpoint", type=Path, default=Path("bundle/models/model.pt"), help="weights for --images")
    parser.add_argument("--image_size", type=int, default=256, help="for --images, default: 256")
    options = parser.parse_args(arguments)

    folder = options.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "benchmark.json"
    here = describe()
    print(json.dumps(here, indent=1))
    found = json.loads(file.read_text()) if file.is_file() else {}  # parts of an earlier call are kept
    for name in ["agreement"] if options.images else options.parts or (PARTS if options.full else SHORT):
        if options.images:
            rows = commands.agreement(options.images, options.checkpoint, options.image_size, folder)
        else:
            rows = PARTS[name](options.full, folder, here)
        found[name] = {"machine": here, "full": options.full, "rows": []}
        for some in rows:
            found[name]["rows"] += some
            write_atomic(file, json.dumps(found, indent=1) + "\n")
    draw({name: part["rows"] for name, part in found.items()}, folder / "benchmark.png")
    print(f"\nall numbers: {file}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
