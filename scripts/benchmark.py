#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure speed, memory and size of the network on this machine, beside its exports and other networks.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # about an hour: all of docs/results/performance.md but the masks
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Each table is printed when it is done. --output_dir gets benchmark.json (all numbers, the machine, the commit) and
benchmark.png. Do not use the machine for anything else meanwhile.

How it measures: variants take turns, each in a process of its own. Times are medians, ± half the distance of the
quartiles. Speed-up is against "released": this network, computed as the released code does (weights in NCHW, attention
as products and softmax, glibc's usual memory). "x floor" is the time divided by the least that this machine could take:
the multiply-accumulates at the measured rate of large matrix products, or moving weights and activations once at the
measured bandwidth, whichever is longer. With a GPU all but the exports run on it, "released" in float32.

--choice DATASET_DIR is for choosing: Dice on its test images and time of an image, for every path of the weights
and for the networks of docs/results/comparison. It draws choice.png.

With --images nothing is timed: the masks of every path are compared with plain PyTorch's, with the shipped weights or
those of --checkpoint (of the default network).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import choice, commands, networks, segmenting, steps
from benchmarks.machine import Row, describe
from common.command import new_parser, run
from common.figures import new_figure, to_png

from unetv2_monai.core.files import write_atomic

PARTS: dict[str, Callable[[bool, Path, Row], Iterator[list[Row]]]] = {
    "inference": networks.inference,
    "training": networks.training,
    "steps": steps.variants,
    "profile": steps.shares,
    "peers": networks.peers,
    "sizes": networks.sizes,
    "commands": commands.commands,
    "segmenting": segmenting.segmenting,
    "data": commands.data,
    "processes": commands.processes,
    "counts": networks.counts,
}
SHORT = ("inference", "training", "sizes", "commands", "segmenting", "data")


@dataclass
class Bars:
    """One diagram of horizontal bars."""

    title: str
    names: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def draw(parts: dict[str, list[Row]], path: Path) -> None:
    """Speed-up of the paths, and the time of other networks to ours, where they were measured."""
    diagrams: list[Bars] = []
    for row in parts.get("inference", []):
        title = f"speed-up, {row['network']}, {row['size']} px, batch {row['batch']}"
        if row["size"] == 352:
            if not diagrams or diagrams[-1].title != title:
                diagrams.append(Bars(title))
            diagrams[-1].names.append(row["path"])
            diagrams[-1].values.append(row["speed-up"])
    if peers := parts.get("peers"):
        others = [row["network"] for row in peers], [row["prepared, to ours"] for row in peers]
        diagrams.append(Bars("time of one image to ours", *others))
    if not diagrams:
        return
    figure = new_figure(8, 2.4 * len(diagrams))
    for axis, bars in zip(figure.subplots(len(diagrams), 1, squeeze=False)[:, 0], diagrams):
        axis.barh(bars.names[::-1], bars.values[::-1])
        axis.set_title(bars.title)
        axis.axvline(1, color="grey", linewidth=1)
    write_atomic(path, to_png(figure))


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="all sizes, exports, networks and rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help=f"default: {' '.join(SHORT)}; with --full all")
    parser.add_argument("--output_dir", type=Path, default=Path("output/benchmark"), help="default: output/benchmark")
    parser.add_argument("--images", type=Path, help="compare the masks of these images")
    parser.add_argument("--choice", type=Path, metavar="DATASET_DIR", help="Dice on its test images, and time")
    parser.add_argument("--checkpoint", type=Path, default=Path("bundle/models/model.pt"), help="weights for these two")
    parser.add_argument("--image_size", type=int, default=256, help="for these two, default: 256")
    arguments = parser.parse_args(argv)

    folder = arguments.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "benchmark.json"
    here = describe()
    print(json.dumps(here, indent=1))
    found = json.loads(file.read_text()) if file.is_file() else {}  # parts of an earlier call are kept
    names = arguments.parts or (PARTS if arguments.full else SHORT)
    weights = arguments.checkpoint, arguments.image_size, folder
    for name in ["agreement"] if arguments.images else ["choice"] if arguments.choice else names:
        if arguments.images:
            rows = commands.agreement(arguments.images, *weights)
        elif arguments.choice:
            rows = choice.choice(arguments.choice, *weights)
        else:
            rows = PARTS[name](arguments.full, folder, here)
        found[name] = {"machine": here, "full": arguments.full, "rows": []}
        for some in rows:
            found[name]["rows"] += some
            write_atomic(file, json.dumps(found, indent=1) + "\n")
    if arguments.choice:
        write_atomic(folder / "choice.png", to_png(choice.plot(found["choice"]["rows"])))
    draw({name: part["rows"] for name, part in found.items()}, folder / "benchmark.png")
    print(f"\nall numbers: {file}")


if __name__ == "__main__":
    run(main, quiet=True)
