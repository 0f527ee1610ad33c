# SPDX-License-Identifier: Apache-2.0
"""Find the endoscope's picture in a frame: many processors put it into a wide black one, with text and drawings."""

import numpy as np

from .hysteresis import components

CELLS = 96  # every n-th pixel is looked at, so that the shorter side has about as many
DARK = 60  # the frame's edge is border where no channel is above this
SOME = 0.04  # share of the edge that must be border
NEAR = 10  # a pixel that differs by more from the border's colour is seen
SATURATED, ALIKE, DRAWN = 90, 8, 0.01  # a drawing's saturation, difference between its pixels, and share of the frame
APART = 0.08  # parts of the picture that darkness separates are larger than this share of the rest, thumbnails are not

View = tuple[slice, slice]


def find_view(image: np.ndarray) -> View:
    """Return the rows and columns of an endoscope's picture in a frame; all of them if the frame has no dark border.

    What differs from the border's colour is seen, apart from drawings: flat areas of a colour that tissue does not
    have, such as the diagram of the endoscope's position. The picture is the box around the largest part that is seen,
    without text and thin lines. Darkness inside of the picture does not matter.

    Args:
        image: RGB of 0 to 255, of shape (height, width, 3).
    """
    height, width = image.shape[:2]
    step = max(1, min(height, width) // CELLS)
    cells = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step].transpose(2, 0, 1), dtype=np.int16)
    edge = np.concatenate([cells[:, 0], cells[:, -1], cells[:, :, 0], cells[:, :, -1]], 1)
    dark = edge[:, edge.max(0) <= DARK]
    whole = slice(0, height), slice(0, width)
    if dark.shape[1] < SOME * edge.shape[1]:
        return whole
    border = np.median(dark, 1).astype(np.int16)
    seen = np.abs(cells - border[:, None, None]).max(0) > NEAR
    found = components(_opened(seen & ~_drawn(cells)))
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    if not sizes.any():
        return whole
    picture = (sizes > APART * sizes.max())[found]
    return _pixels(picture.any(1), step, height), _pixels(picture.any(0), step, width)


def _pixels(picture: np.ndarray, step: int, size: int) -> slice:
    """Return the pixels along one side, from one cell before the picture to one after it."""
    cells = np.flatnonzero(picture)
    stop = (int(cells[-1]) + 2) * step
    return slice(max(int(cells[0]) - 1, 0) * step, stop if stop < size - step else size)


def _drawn(cells: np.ndarray) -> np.ndarray:
    """Return which cells belong to a drawing: saturated, not red, and like most of their neighbours."""
    highest = cells.max(0)
    drawn = (highest - cells.min(0) >= SATURATED) & (cells[0] < highest)
    if drawn.mean() <= DRAWN:
        return np.zeros_like(drawn)
    neighbours = np.zeros(drawn.shape, dtype=np.int8)
    rows = np.abs(np.diff(cells, axis=1)).max(0) <= ALIKE
    columns = np.abs(np.diff(cells, axis=2)).max(0) <= ALIKE
    neighbours[1:] += rows
    neighbours[:-1] += rows
    neighbours[:, 1:] += columns
    neighbours[:, :-1] += columns
    drawn &= neighbours >= 3
    return _spread(drawn) if drawn.mean() > DRAWN else np.zeros_like(drawn)


def _spread(marked: np.ndarray) -> np.ndarray:
    """Mark the eight neighbours of marked cells as well."""
    padded = np.pad(marked, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _opened(marked: np.ndarray) -> np.ndarray:
    """Remove what is thinner than three cells; cells outside count as marked."""
    return _spread(~_spread(~marked))
