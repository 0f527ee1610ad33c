#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Draw endoscopy-like images with masks, to try everything without a data set.

    python scripts/make_demo_data.py demo/data --train 240 --test 24
    python scripts/make_demo_data.py demo/nuclei --nuclei             # many tiny objects in large images instead

An image shows tissue with folds, vessels and highlights, lit from one side, and in most cases one or two dome-shaped
lesions that differ little from their surroundings; each sixth test image has none. The images have several sizes, and
are PNG and JPEG; masks are 0/255. The same seed gives the same images.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common.command import new_parser, run
from PIL import Image

SIZES = ((320, 256), (240, 300), (288, 288), (360, 240), (256, 192))  # width, height
TISSUE = np.array([188.0, 96.0, 84.0])
SECTION, NUCLEUS, SECTION_SIZE = np.array([222.0, 168.0, 196.0]), np.array([92.0, 58.0, 130.0]), (1024, 768)
VESSEL = np.array([128.0, 38.0, 44.0])


def noise(rng: np.random.Generator, width: int, height: int, cell: float, octaves: int = 3) -> np.ndarray:
    """Return smooth noise of zero mean and unit deviation, whose largest structures are ``cell`` pixels wide."""
    total = np.zeros((height, width))
    for octave in range(octaves):
        size = cell / 2**octave
        grid = rng.standard_normal((int(height / size) + 4, int(width / size) + 4)).astype(np.float32)
        field = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(field) / 2**octave
    return (total - total.mean()) / total.std()


def lesion(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask of one dome (soft, 0 to 1) and its height (0 to 1)."""
    short = min(width, height)
    x0, y0 = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    radius = rng.uniform(0.1, 0.26) * short
    aspect, turn = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width]
    u = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
    v = ((y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)) / aspect
    angle = np.arctan2(v, u)
    outline = radius * (1 + sum(rng.uniform(-0.1, 0.1) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5)))
    distance = np.hypot(u, v) / outline
    return np.clip((1 - distance) * radius / 3 + 0.5, 0, 1), np.sqrt(np.clip(1 - distance**2, 0, 1))


def draw(rng: np.random.Generator, width: int, height: int, visible: bool = True) -> tuple[Image.Image, Image.Image]:
    """Return one image and its mask. Lesions that are not ``visible`` take the same random numbers."""
    y, x = np.mgrid[0:height, 0:width]
    short = min(width, height)
    relief = noise(rng, width, height, short / 2.5) + 0.25 * noise(rng, width, height, short / 12)
    folds = np.sin(rng.uniform(4, 9) * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) / short + 0.8 * relief)
    relief = 0.3 * relief + 0.5 * folds
    color = TISSUE * rng.uniform(0.85, 1.1, 3) + 9 * noise(rng, width, height, short / 5)[..., None]

    soft, mask = np.zeros((height, width)), np.zeros((height, width), bool)
    for _ in range(rng.choice([0, 1, 2], p=[0.05, 0.8, 0.15])):
        alpha, dome = (visible * part for part in lesion(rng, width, height))
        tint = rng.uniform(14, 34) * np.array([1.0, rng.uniform(-0.8, 0.4), rng.uniform(-0.8, 0.4)])
        grain = 6 * noise(rng, width, height, short / 30)[..., None]
        color += alpha[..., None] * (tint * rng.choice([-1, 1]) + grain)
        relief = relief * (1 - 0.7 * alpha) + rng.uniform(1.2, 2.0) * dome
        soft, mask = np.maximum(soft, alpha), mask | (alpha > 0.5)

    vessels = (
        np.exp(-((noise(rng, width, height, short / 4, 2) / 0.035) ** 2)) * (1 - 0.6 * soft) * rng.uniform(0.2, 0.6)
    )
    color = color * (1 - vessels[..., None]) + VESSEL * vessels[..., None]

    slope_y, slope_x = np.gradient(relief, 0.04)
    direction = rng.uniform(0, 2 * np.pi)
    shade = np.clip(1 + 0.22 * np.tanh(slope_x * np.cos(direction) + slope_y * np.sin(direction)), 0.3, 1.6)
    away = np.hypot(x - rng.uniform(0.3, 0.7) * width, y - rng.uniform(0.3, 0.7) * height) / np.hypot(width, height)
    image = color * (shade * (1.15 - 0.9 * away))[..., None]
    shine = (noise(rng, width, height, short / 16, 2) > 2.6) & (shade > 1.05)
    image[shine] = image[shine] * 0.2 + 200
    image += rng.normal(0, 2.5, image.shape)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8) * 255)


def draw_nuclei(rng: np.random.Generator, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Return a stained section with 20 to 60 nuclei of 8 to 16 pixels, among fibres and darker stains, and its mask."""
    image = SECTION + 12 * noise(rng, width, height, 200)[..., None] + 8 * noise(rng, width, height, 8)[..., None]
    image -= 40 * np.exp(-((noise(rng, width, height, 60, 2) / 0.1) ** 2))[..., None]  # fibres
    image -= 50 * np.clip(noise(rng, width, height, 40, 1) - 1.5, 0, 1)[..., None]  # stains
    mask = np.zeros((height, width), bool)
    y, x = np.mgrid[-8:9, -8:9]
    for _ in range(rng.integers(20, 60)):
        place = tuple(slice(start, start + 17) for start in rng.integers(0, np.subtract(mask.shape, 17)))
        turn = rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        distance = np.hypot(u / rng.uniform(5, 8), v / rng.uniform(4, 6))
        soft = np.clip((1 - distance) * 3 + 0.5, 0, 1)[..., None] * rng.uniform(0.4, 0.8)
        image[place] = image[place] * (1 - soft) + NUCLEUS * soft
        mask[place] |= distance < 1
    image += rng.normal(0, 4, image.shape)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8) * 255)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where to write train/ and test/, each with images/ and masks/")
    parser.add_argument("--train", type=int, default=240, help="images to train on (default: 240)")
    parser.add_argument("--test", type=int, default=24, help="images to test on (default: 24)")
    parser.add_argument("--nuclei", action="store_true", help="sections with tiny nuclei, 1024 x 768")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)

    rng = np.random.default_rng(arguments.seed)
    for split, count in (("train", arguments.train), ("test", arguments.test)):
        images, masks = (arguments.folder / split / kind for kind in ("images", "masks"))
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(exist_ok=True)
        for index in range(count):
            size, visible = SIZES[index % len(SIZES)], split == "train" or index % 6 != 5
            image, mask = draw_nuclei(rng, *SECTION_SIZE) if arguments.nuclei else draw(rng, *size, visible)
            image.save(images / f"{split}_{index:03d}.{'jpg' if index % 2 else 'png'}", quality=92)
            mask.save(masks / f"{split}_{index:03d}.png")
    print(f"{arguments.train} + {arguments.test} images with masks in {arguments.folder}")


if __name__ == "__main__":
    run(main)
