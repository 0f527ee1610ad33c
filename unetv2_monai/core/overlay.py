# SPDX-License-Identifier: Apache-2.0
"""Draw outlined masks on images, and arrange images in rows and columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import encoded, write_atomic
from .view import View

MASK_COLOR, PREDICTION_COLOR, VIEW_COLOR = (60, 220, 90), (255, 210, 40), (255, 255, 255)
TITLE_HEIGHT, GAP = 18, 4  # pixels


def outlined(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], opacity: float = 0.3) -> np.ndarray:
    """Draw the outline of a boolean mask, and a tint inside it, on a copy of an image of shape (height, width, 3)."""
    out = image.copy()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return out
    # the mask's bounding box, and one pixel around it to tell the mask's outline from the image's edge
    box = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    filled, steps = mask[box], max(1, min(mask.shape) // 150)
    inside = np.pad(filled, steps, mode="edge")
    for _ in range(steps):
        smaller = inside[1:-1, 1:-1] & inside[2:, 1:-1]
        for neighbour in (inside[:-2, 1:-1], inside[1:-1, 2:], inside[1:-1, :-2]):
            smaller &= neighbour
        inside = smaller
    tints = [int((1 - opacity) * shade + opacity * value) for value in color for shade in range(256)]
    part = Image.fromarray(out[box])  # Pillow is faster here than NumPy's indexing by a mask
    part.paste(part.point(tints), mask=Image.fromarray(inside))
    part.paste(color, mask=Image.fromarray(filled & ~inside))
    out[box] = part
    return out


def boxed(image: np.ndarray, view: View) -> np.ndarray:
    """Draw the box of a view, if it is not the whole image, on a copy of an image of shape (height, width, 3)."""
    drawn = Image.fromarray(image)
    if image[view].shape != image.shape:
        (top, bottom), (left, right) = ((side.start, side.stop - 1) for side in view)
        width = max(1, image.shape[1] // 150)
        ImageDraw.Draw(drawn).rectangle((left, top, right, bottom), outline=VIEW_COLOR, width=width)
    return np.asarray(drawn)


def save_overlay(image: np.ndarray, path: Path) -> None:
    """Write an image of shape (height, width, 3) as a JPEG file, atomically. Pillow itself tears it on a full disk."""
    write_atomic(path, encoded(Image.fromarray(image), "jpeg", quality=92))


def side_by_side(panels: Sequence[np.ndarray], title: str, height: int) -> Image.Image:
    """Put images of one size in a row, scaled to ``height`` pixels, with a title above."""
    width = round(height * panels[0].shape[1] / panels[0].shape[0])
    row = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + TITLE_HEIGHT), "white")
    for index, panel in enumerate(panels):
        row.paste(Image.fromarray(panel).resize((width, height)), (index * (width + GAP), TITLE_HEIGHT))
    ImageDraw.Draw(row).text((2, 1), title, fill="black", font=ImageFont.load_default(13))
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Stack several images vertically in one image."""
    width = max(row.width for row in rows)
    padded = [np.pad(np.asarray(row), ((0, 0), (0, width - row.width), (0, 0)), constant_values=255) for row in rows]
    return Image.fromarray(np.concatenate(padded))
