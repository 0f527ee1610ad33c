# SPDX-License-Identifier: Apache-2.0
"""Dice against the time of an image: the paths of the shipped weights, and other networks."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from common.bundle import ROOT
from common.comparison_results import MARKERS
from common.comparisons import Row as ComparedRow
from common.figures import new_figure
from common.options import values_of
from PIL import Image

from unetv2_monai import to_mask
from unetv2_monai.data import find_pairs
from unetv2_monai.metrics import mask_dice

from .commands import Command
from .machine import Row, show
from .networks import DEFAULT, PATHS, exported_weights, variants_of
from .stopwatch import Variant, start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARED = ROOT / "docs/results/comparison/polyps_scores.csv"
COMPARED_SIZE = 128  # pixels, of the comparison's images
LEFT_OUT = ("TorchScript", "torch.export")  # within a fifth of the default, with its masks
SECONDS = 60
LEAST_RANGE = 0.02  # of Dice that a panel shows, so that equal masks look equal


def shipped(dataset_dir: Path, checkpoint: Path, size: int, folder: Path) -> list[Row]:
    """Every path of the default network: Dice of its masks of the test images at native size, and its time."""
    training_images = find_pairs(str(dataset_dir))["training"]
    _, target = exported_weights(checkpoint, size, folder / "choice", training_images)
    variants = variants_of(DEFAULT, target, [name for name in PATHS if name not in LEFT_OUT])
    del variants["released"]
    labels = labels_of(dataset_dir)
    dice: dict[str, float] = {}
    for name, variant in variants.items():
        own = {"checkpoint": checkpoint, "image_size": size, **(PATHS[name].options_in(target) or {})}
        dice[name] = segmented_dice(Command(("inference.json", *variant.overlays), own), labels, folder / "choice")
    return timed(variants, dice, size)


def labels_of(dataset_dir: Path) -> dict[Path, dict[str, Path]]:
    """Masks of the test images, by the images' folder and by their names without ending."""
    found: dict[Path, dict[str, Path]] = defaultdict(dict)
    for pair in find_pairs(str(dataset_dir))["test"]:
        found[Path(pair["image"]).parent][Path(pair["image"]).stem] = Path(pair["label"])
    return found


def segmented_dice(command: Command, labels: Mapping[Path, Mapping[str, Path]], folder: Path) -> float:
    """Mean Dice over all images of what ``run inference`` writes."""
    found: list[float] = []
    for images, truths in labels.items():
        masks = folder / "masks" / images.parent.name
        command.run("inference", {"dataset_dir": images, "output_dir": masks, "check_data": False}, folder)
        found += [dice_of_files(masks / f"{stem}.png", truth) for stem, truth in truths.items()]
    return fmean(found)


def dice_of_files(mask: Path, truth: Path) -> float:
    """Dice of two masks."""
    with Image.open(mask) as one, Image.open(truth) as other:
        return mask_dice(*(np.asarray(to_mask(opened)) > 0 for opened in (one, other)))


def compared() -> list[Row]:
    """The networks of the comparison under equal terms: their Dice from its table, and their time here."""
    found = mean_dice(COMPARED)
    rows = {text: ComparedRow.parse(text) for text in found}
    variants = {
        row.label: Variant(
            overlays=tuple(row.overlays),
            options={"load_pretrain": False, **values_of(row.options)},
        )
        for row in rows.values()
    }
    return timed(variants, {rows[text].label: dice for text, dice in found.items()}, COMPARED_SIZE)


def mean_dice(scores: Path) -> dict[str, float]:
    """By row of a comparison: over its seeds and images, at equal epochs."""
    found: dict[str, list[float]] = defaultdict(list)
    with scores.open(newline="") as opened:
        for row in csv.DictReader(opened):
            if row["terms"] == "epochs":
                found[row["row"]].append(float(row["dice"]))
    return {name: fmean(values) for name, values in found.items()}


def timed(variants: Mapping[str, Variant], dice: Mapping[str, float], size: int) -> list[Row]:
    with start(dict(variants)) as workers:
        timings = workers.take_turns(1, size, SECONDS)
    first = next(iter(timings))
    return [
        {"network": name, "size": size, "Dice": f"{dice[name]:.4f}", "ms an image": 1000 * timing.median,
         "±": 1000 * timing.spread, "speed-up": timings[first].median / timing.median}
        for name, timing in timings.items()
    ]  # fmt: skip


def choice(dataset_dir: Path, checkpoint: Path, size: int, folder: Path) -> Iterator[list[Row]]:
    """Both tables."""
    rows = shipped(dataset_dir, checkpoint, size, folder)
    show(f"The shipped weights, {size} x {size}, one image at a time", rows)
    yield rows
    rows = compared()
    show(f"Networks under equal terms, {COMPARED_SIZE} x {COMPARED_SIZE}, one image at a time", rows)
    yield rows


def plot(rows: Sequence[Row]) -> Figure:
    """A panel for each size of the images; a point is a row."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure = new_figure(6 * len(sizes), 4.5)
    for axis, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes):
        shown = [row for row in rows if row["size"] == size]
        dice = [float(row["Dice"]) for row in shown]
        for marker, row, value in zip(cycle(MARKERS), shown, dice):
            axis.plot(row["ms an image"], value, marker, label=row["network"])
        middle, half = (max(dice) + min(dice)) / 2, max(0.6 * (max(dice) - min(dice)), LEAST_RANGE / 2)
        axis.set(title=f"{size} x {size} pixels", xlabel="ms an image", ylabel="Dice, mean over images")
        axis.set(xlim=(0, None), ylim=(middle - half, middle + half))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return figure
