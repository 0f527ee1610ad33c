# SPDX-License-Identifier: Apache-2.0
"""Measure the lesions of a mask one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .hysteresis import runs

NAMES = ["image", "frame", "number"]  # the number of a lesion in its image, from 1 on
END = ["probability", "mean_probability", "touches_border"]
PLANE = ["pixels", "mm2", "left", "top", "width", "height", "center_x", "center_y"]
SPACE = ["voxels", "mm3", "x", "y", "z", "size_x", "size_y", "size_z", "center_x", "center_y", "center_z"]


def lesion_columns(dimensions: int = 2) -> list[str]:
    """Return the columns of lesions.csv: ``NAMES``, and what :py:func:`measure_lesions` returns."""
    return [*NAMES, "class", *(PLANE if dimensions == 2 else SPACE), *END]


def measure_lesions(
    mask: np.ndarray, probability: np.ndarray, spacing: Sequence[float] | None = None
) -> list[list[Any]]:
    """Measure each connected component of each class; corners connect pixels.

    Args:
        mask: class indices, of shape (width, height) or (dim_0, dim_1, dim_2).
        probability: of the one structure, in the shape of the mask, or of all classes, (classes, width, height) and
            so on. The background is class 0.
        spacing: mm along each dimension. Defaults to None: unknown, and areas in mm² are empty.

    Returns:
        A list of rows with the class, the number of pixels, their area or volume in mm, the first pixel and the size
        of the smallest box, the centre (0.5 is the middle of the first pixel), the largest and the mean probability,
        and 1 if a pixel is at the border, else 0.
    """
    rows: list[list[Any]] = []
    used = [np.flatnonzero(mask.any(tuple({*range(mask.ndim)} - {axis}))) for axis in range(mask.ndim)]
    if len(used[0]) == 0:
        return rows
    box: Any = (..., *(slice(axis[0], axis[-1] + 1) for axis in used))  # of all lesions: most of the mask is empty
    shape, offset = mask.shape, np.array([axis[0] for axis in used])
    mask, probability = mask[box], probability[box]
    for index in range(1, int(mask.max()) + 1):
        marked = np.pad(mask == index, 1)
        edges, component = runs(marked)
        if len(edges) == 0:
            continue
        order = np.argsort(component, kind="stable")
        heads = np.flatnonzero(np.diff(component[order], prepend=-1))
        lengths = (edges[1::2] - edges[::2])[order]
        begin = np.stack(np.unravel_index(edges[::2][order], marked.shape), axis=1) - 1 + offset
        end = begin + np.eye(mask.ndim, dtype=int)[-1] * (lengths[:, None] - 1)  # runs lie along the last axis
        counts = np.add.reduceat(lengths, heads)
        first, last = np.minimum.reduceat(begin, heads), np.maximum.reduceat(end, heads)
        center = np.add.reduceat((begin + end + 1) / 2 * lengths[:, None], heads) / counts[:, None]
        values = np.pad(probability if probability.ndim == mask.ndim else probability[index], 1).ravel()
        peaks = np.maximum.reduceat(np.maximum.reduceat(values, edges)[::2][order], heads)
        sums = np.add.reduceat(np.add.reduceat(values, edges, dtype=np.float64)[::2][order], heads)
        border = ((first == 0) | (last == np.array(shape) - 1)).any(1)
        for one in range(len(heads)):
            size = f"{counts[one] * np.prod(spacing):.4f}" if spacing is not None else ""
            corner = [*first[one].tolist(), *(last[one] - first[one] + 1).tolist()]
            middle = [f"{value:.1f}" for value in center[one]]
            sure = [f"{peaks[one]:.4f}", f"{sums[one] / counts[one]:.4f}"]
            rows.append([index, int(counts[one]), size, *corner, *middle, *sure, int(border[one])])
    return rows


def lesion_rows(name: str, frame: str, measured: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Return rows of lesions.csv for what was measured on an image, or on a frame of a video."""
    return [[name, frame, str(number), *map(str, row)] for number, row in enumerate(measured, start=1)]
