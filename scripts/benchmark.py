#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure speed, memory and size of the network on this machine, beside its exports and other networks.

    python scripts/benchmark.py                 # minutes: the common cases
    python scripts/benchmark.py --full          # about an hour: all of docs/results/performance.md but the masks
    python scripts/benchmark.py --parts counts  # parameters and multiply-accumulates, nothing timed

Each table is printed when it is done. --output_dir gets benchmark.json (all numbers, the machine, the commit) and
benchmark.png. Do not use the machine for anything else meanwhile.

Variants take turns, each in a process of its own; torch.utils.benchmark times them. Times are medians, ± half the
interquartile range. The speed-up is relative to "released": this network, computed as the released code computes it
(weights in NCHW, attention as matrix products and a softmax, glibc's default malloc). With a GPU, all but the exports
run on it, "released" in float32.

--choice DATASET_DIR measures Dice on the test images and time per image of the shipped weights (or --checkpoint) in
each runtime, times the networks of docs/results/comparison, and draws choice.png. scripts/export.py measures how far
the logits of an exported file are from PyTorch's.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from benchmarks import parts
from benchmarks.timing import Row, Variant, describe, timed
from common.bundle import ROOT
from common.command import new_parser, run
from common.exports import images_of, inference_config
from common.options import values_of
from common.pages import markdown, new_figure, to_png
from common.quantisation import CALIBRATION_IMAGES
from common.rows import Row as ComparedRow
from PIL import Image

from unetv2_monai import to_mask
from unetv2_monai.core.files import read_csv, write_atomic
from unetv2_monai.data import find_pairs
from unetv2_monai.metrics import mask_dice

SHORT = ("inference", "training", "sizes", "commands", "segmenting", "data")
PARTS = (*SHORT, "steps", "peers", "processes", "counts")  # functions of benchmarks/parts.py
COMPARED = ROOT / "docs/results/comparison/polyps_scores.csv"
COMPARED_SIZE = 128  # pixels, size of the comparison's images
LEFT_OUT = ("TorchScript", "torch.export")  # they take the default's time within a fifth, and give the same masks
LEAST_RANGE = 0.02  # smallest range of the Dice axis, so that equal masks look equal


def choice(dataset_dir: Path, checkpoint: Path, size: int, folder: Path) -> Iterator[parts.Table]:
    """Measure Dice and time per image of the default network in each runtime, and of the compared networks."""
    pairs, exports = find_pairs(str(dataset_dir)), folder / "exports" / "choice"
    calibration = images_of(pairs["training"], inference_config({"image_size": size}), CALIBRATION_IMAGES)
    parts.export_all(parts.trained(checkpoint), parts.DEFAULT, exports, calibration)
    paths = parts.paths(exports, image_size=size, checkpoint=str(checkpoint))
    paths = {name: path for name, path in paths.items() if name not in LEFT_OUT}
    rows = timed(paths, [(1, size)], 60)
    for row in rows:
        row["Dice"] = f"{segmented_dice(paths[row['path']], pairs['test'], folder):.4f}"
    yield f"The shipped weights, {size} x {size}, one image at a time", rows
    yield f"Networks under equal terms, {COMPARED_SIZE} x {COMPARED_SIZE}, one image at a time", compared()


def segmented_dice(path: Variant, pairs: Sequence[Mapping[str, str]], folder: Path) -> float:
    """Segment the images of these pairs with ``run inference``, and return the mean Dice of the masks."""
    dice: list[float] = []
    for images in sorted({Path(pair["image"]).parent for pair in pairs}):
        masks = folder / "masks" / images.parent.name
        parts.run_command(path, folder, {"dataset_dir": images, "output_dir": masks, "check_data": False})
        own = [pair for pair in pairs if Path(pair["image"]).parent == images]
        dice += [dice_of_files(masks / f"{Path(pair['image']).stem}.png", pair["label"]) for pair in own]
    return fmean(dice)


def dice_of_files(mask: Path, truth: Path | str) -> float:
    """Compute the Dice of two mask files."""
    with Image.open(mask) as one, Image.open(truth) as other:
        return mask_dice(*(np.asarray(to_mask(opened)) > 0 for opened in (one, other)))


def compared() -> list[Row]:
    """Time the networks of the comparison on this machine, and read their Dice from the comparison's table."""
    dice = mean_dice(COMPARED)
    networks = {text: ComparedRow.parse(text) for text in dice}
    variants = {text: Variant("inference", tuple(n.overlays), values_of(n.options)) for text, n in networks.items()}
    rows = timed(variants, [(1, COMPARED_SIZE)], 60)
    return [{**row, "path": networks[row["path"]].label, "Dice": f"{dice[row['path']]:.4f}"} for row in rows]


def mean_dice(scores: Path) -> dict[str, float]:
    """Average the Dice of each row of a comparison over its seeds and images, at equal epochs."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in read_csv(scores):
        if row["terms"] == "epochs":
            found[row["row"]].append(float(row["dice"]))
    return {name: fmean(values) for name, values in found.items()}


def draw_choice(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel for each size of the images, with a point for each row."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure = new_figure(6 * len(sizes), 4.5)
    for axis, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes):
        shown = [row for row in rows if row["size"] == size]
        dice = [float(row["Dice"]) for row in shown]
        for row, height in zip(shown, dice):
            axis.plot(row["ms an image"], height, "o", label=row["path"])
        middle, half = (min(dice) + max(dice)) / 2, max(0.6 * (max(dice) - min(dice)), LEAST_RANGE / 2)
        axis.set(title=f"{size} x {size} pixels", xlabel="ms an image", ylabel="Dice, mean over images")
        axis.set(xlim=(0, None), ylim=(middle - half, middle + half))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    write_atomic(path, to_png(figure))


def draw(inference: Sequence[Row], peers: Sequence[Row], path: Path) -> None:
    """Draw the speed-up of each runtime, and the time of other networks relative to ours, if they were measured."""
    diagrams: dict[str, dict[str, float]] = defaultdict(dict)
    for row in inference:
        if row["size"] == 352:
            title = f"speed-up, {row['network']}, {row['size']} px, batch {row['batch']}"
            diagrams[title][row["path"]] = row["speed-up"]
    for row in peers:
        diagrams["time of one image to ours"][row["network"]] = row["prepared, to ours"]
    if not diagrams:
        return
    figure = new_figure(8, 2.4 * len(diagrams))
    for axis, (title, bars) in zip(figure.subplots(len(diagrams), 1, squeeze=False)[:, 0], diagrams.items()):
        axis.barh(list(bars)[::-1], list(bars.values())[::-1])
        axis.set_title(title)
        axis.axvline(1, color="grey", linewidth=1)
    write_atomic(path, to_png(figure))


def cell(value: object) -> str:
    """Write a number with three significant digits, or as a whole number from 100 on."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="measure all sizes, exports, networks and rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help=f"default: {' '.join(SHORT)}; with --full all")
    parser.add_argument("--output_dir", type=Path, default=Path("output/benchmark"), help="default: output/benchmark")
    parser.add_argument("--choice", type=Path, metavar="DATASET_DIR", help="measure Dice on its test images, and time")
    parser.add_argument("--checkpoint", type=Path, default=Path("bundle/models/model.pt"), help="weights for --choice")
    parser.add_argument("--image_size", type=int, default=256, help="for --choice, default: 256")
    arguments = parser.parse_args(argv)

    folder = arguments.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file, machine = folder / "benchmark.json", describe()
    print(json.dumps(machine, indent=1))
    names = arguments.parts or (PARTS if arguments.full else SHORT)
    tables = {name: getattr(parts, name)(arguments.full, folder) for name in names}  # measured in the loop below
    if arguments.choice:
        tables = {"choice": choice(arguments.choice, arguments.checkpoint, arguments.image_size, folder)}
    found = json.loads(file.read_text()) if file.is_file() else {}  # parts of an earlier call are kept
    for name, tables_of in tables.items():
        found[name] = {"machine": machine, "full": arguments.full, "rows": []}
        for title, rows in tables_of:
            shown = [{key: cell(value) for key, value in row.items()} for row in rows]
            print(f"\n### {title}\n\n{markdown(shown)}", flush=True)
            found[name]["rows"] += rows
            write_atomic(file, json.dumps(found, indent=1) + "\n")
    rows_of = {name: part["rows"] for name, part in found.items()}
    if arguments.choice:
        draw_choice(rows_of["choice"], folder / "choice.png")
    draw(rows_of.get("inference", []), rows_of.get("peers", []), folder / "benchmark.png")
    print(f"\nall numbers: {file}")


if __name__ == "__main__":
    run(main, quiet=True)
