# SPDX-License-Identifier: Apache-2.0
"""Pictures with masks drawn on them: what check_data.py, label_loop.py and report.py share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL_HEIGHT = 240
MASK_COLOR, PREDICTION_COLOR = (60, 220, 90), (255, 210, 40)


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


def strip(title: str, image: np.ndarray, mask: np.ndarray, prediction: np.ndarray) -> Image.Image:
    """Image, mask and prediction of one case side by side, with a title."""
    panels = [image, outlined(image, mask, MASK_COLOR), outlined(image, prediction, PREDICTION_COLOR)]
    width = round(PANEL_HEIGHT * image.shape[1] / image.shape[0])
    out = Image.new("RGB", (3 * width + 2 * 4, PANEL_HEIGHT + 18), "white")
    for index, panel in enumerate(panels):
        out.paste(Image.fromarray(panel).resize((width, PANEL_HEIGHT)), (index * (width + 4), 18))
    ImageDraw.Draw(out).text((2, 1), title, fill="black", font=ImageFont.load_default(13))
    return out


def stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """Several pictures above each other."""
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    top = 0
    for one in strips:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet
