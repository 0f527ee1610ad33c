#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Show what the scores mean: image, mask and prediction side by side for the best (of those with a lesion), the median and
the worst image.

Reads the per-image scores that ``run evaluating`` wrote and the masks that ``run inference`` wrote for the same images.

    python scripts/make_overlays.py output/evaluation output/masks --dataset_dir TEST_DIR --output output/overlay.png
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from unetv2_monai import InputError, load_datalist, to_mask, to_rgb

PANEL_HEIGHT = 240
MASK_COLOR, PREDICTION_COLOR = (60, 220, 90), (255, 210, 40)


def read_scores(folder: Path, metric: str) -> list[tuple[float, str]]:
    """(score, path of the image) of every image that was evaluated, worst first."""
    path = folder / "scores.csv"
    if not path.is_file():
        raise InputError(f"{path} does not exist: run evaluating first, or name its eval_dir.")
    with path.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    return sorted((float(row[metric]), row["image"]) for row in rows)


def outlined(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """The image, tinted inside the mask and with its outline drawn."""
    out = image.astype(float)
    out[mask] = 0.7 * out[mask] + 0.3 * np.array(color)
    thick = max(1, min(mask.shape) // 150)
    inside = mask.copy()
    for _ in range(thick):
        padded = np.pad(inside, 1, mode="edge")
        inside = inside & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    out[mask & ~inside] = color
    return out.astype(np.uint8)


def row(title: str, image_path: str, label_path: str, prediction_path: Path) -> Image.Image:
    """Image, mask and prediction of one case, with a title."""
    image = np.asarray(to_rgb(Image.open(image_path)))
    if not prediction_path.is_file():
        raise InputError(f"{prediction_path} does not exist: run inference on {Path(image_path).parent} first.")
    masks = [np.asarray(to_mask(Image.open(path))) > 0 for path in (label_path, prediction_path)]
    panels = [image, outlined(image, masks[0], MASK_COLOR), outlined(image, masks[1], PREDICTION_COLOR)]
    width = round(PANEL_HEIGHT * image.shape[1] / image.shape[0])
    strip = Image.new("RGB", (3 * width + 2 * 4, PANEL_HEIGHT + 18), "white")
    for index, panel in enumerate(panels):
        strip.paste(Image.fromarray(panel).resize((width, PANEL_HEIGHT)), (index * (width + 4), 18))
    ImageDraw.Draw(strip).text((2, 3), title, fill="black")
    return strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval_dir", type=Path, help="the eval_dir of evaluating, with scores.csv")
    parser.add_argument("masks", type=Path, help="the output_dir of inference on the same images")
    parser.add_argument("--dataset_dir", required=True, help="the data set that was evaluated")
    parser.add_argument("--section", default="test", help="the section that was evaluated (default: test)")
    parser.add_argument("--metric", default="dice", help="a column of scores.csv (default: dice)")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args()

    scores = read_scores(arguments.eval_dir, arguments.metric)
    pairs = load_datalist(arguments.dataset_dir, [arguments.section], check=False)[arguments.section]
    labels = {Path(pair["image"]).name: pair["label"] for pair in pairs}
    lesions = [s for s in scores if np.asarray(to_mask(Image.open(labels[Path(s[1]).name]))).any()]
    chosen = {"best": (lesions or scores)[-1], "median": scores[len(scores) // 2], "worst": scores[0]}
    rows = [
        row(
            f"{which}: {Path(path).name}  Dice {score:.3f}  (image, mask, prediction)",
            path,
            labels[Path(path).name],
            arguments.masks / f"{Path(path).stem}.png",
        )
        for which, (score, path) in chosen.items()
    ]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for strip in rows:
        sheet.paste(strip, (0, top))
        top += strip.height
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output)

    values = np.array([score for score, _ in scores])
    median = values[len(values) // 2]
    print(f"{len(values)} images: mean Dice {values.mean():.3f}, median {median:.3f}, worst {values[0]:.3f}")
    print(f"best, median and worst image: {arguments.output}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
