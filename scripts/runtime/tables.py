# SPDX-License-Identifier: Apache-2.0
"""What is measured on the mask of an image or a frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def lesion_table(table: Path) -> Path:
    """Return the path of a video's table of lesions, by that of its table."""
    return table.with_name(f"{table.stem}_lesions.csv")


def columns(classes: Sequence[str]) -> list[str]:
    """Return the columns that :py:func:`measure` fills; ``classes``: the classes' names, background first."""
    each = [f"area {name}" for name in classes[1:]] if len(classes) > 2 else []
    return ["lesion", "area", "probability", "left", "top", "width", "height", "ms", *each]


def measure(mask: np.ndarray, probability: float, milliseconds: float, classes: Sequence[str]) -> list[str]:
    """
    Compute the cells of :py:func:`columns` from a mask of class indices (height, width).

    Areas are shares of the image. The box is the smallest rectangle around all foreground pixels, in pixels. Its cells
    are empty if there are none.
    """
    marked = mask > 0
    y, x = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    box = [x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]] if len(y) else [""] * 4
    areas = [np.count_nonzero(mask == index) / mask.size for index in range(1, len(classes))]
    each = [f"{area:.6f}" for area in areas] if len(areas) > 1 else []
    found = [int(len(y) > 0), f"{sum(areas):.6f}", f"{probability:.4f}", *box, f"{milliseconds:.1f}", *each]
    return [str(value) for value in found]
