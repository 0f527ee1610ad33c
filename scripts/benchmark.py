#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure speed, memory and size of the network on this machine. Do not use the machine for anything else meanwhile.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # also exported files, larger images, both encoders
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Each table is printed when it is done. --output_dir gets benchmark.json: all numbers, the machine, the commit.

Variants take turns, each in a process of its own; torch.utils.benchmark times them. Times are medians, ± half the
interquartile range. The speed-up is relative to "released": this network, computed as the released code computes it
(weights in NCHW, attention as matrix products and a softmax, glibc's default malloc). With a GPU, all but the exports
run on it, "released" in float32.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.parts import PARTS
from benchmarks.timing import describe
from common.command import new_parser, run
from common.pages import markdown

from unetv2_monai.core.files import write_atomic


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
