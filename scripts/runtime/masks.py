# SPDX-License-Identifier: Apache-2.0
"""From the network's output to a mask of the image's own size, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unetv2_monai.core.description import Description

from .images import resize

__all__ = ["Finding", "hysteresis", "measure", "probabilities", "to_mask"]


@dataclass(frozen=True)
class Finding:
    """
    Args:
        lesion: whether the mask has a pixel of a class other than background.
        area: their share of the image.
        probability: the largest one of such a class in the network's output, at the network's size.
        box: left, top, width and height of the smallest rectangle that holds them, in pixels; None without any.
        areas: the share of each class but background.
    """

    lesion: bool
    area: float
    probability: float
    box: tuple[int, int, int, int] | None
    areas: tuple[float, ...]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """
    Args:
        logits: (channels, height, width).

    Returns:
        (height, width, channels): by a sigmoid for one channel, else by a softmax.
    """
    values = logits.transpose(1, 2, 0)
    if values.shape[2] == 1:
        return 1 / (1 + np.exp(-np.clip(values, -80, 80)))
    exponential = np.exp(values - values.max(2, keepdims=True))
    return exponential / exponential.sum(2, keepdims=True)


def to_mask(probability: np.ndarray, size: tuple[int, int], description: Description) -> np.ndarray:
    """
    Args:
        probability: (height, width, channels) at the network's size.
        size: height and width of the mask.
        description: of the network, with the threshold and the certainty.

    Returns:
        Class indices, (height, width), uint8.
    """
    if description.threshold is None:
        return resize(probability, size).argmax(2).astype(np.uint8)
    mask = np.zeros(size, dtype=np.uint8)
    lowest = description.threshold
    region = _region(probability[..., 0] >= lowest, size)
    if region is not None:  # nothing is interpolated above the threshold elsewhere
        values = resize(probability[..., 0], size, region)
        certain = description.certainty
        mask[region] = hysteresis(values, lowest, certain) if certain > lowest else values >= lowest
    return mask


def _region(marked: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns of the resized image that marked pixels have weight in."""
    slices = []
    for axis, target in enumerate(size):
        found = np.flatnonzero(marked.any(1 - axis))
        if len(found) == 0:
            return None
        scale = target / marked.shape[axis]
        first, last = int((found[0] - 1) * scale), int((found[-1] + 2) * scale) + 1
        slices.append(slice(max(first - 1, 0), min(last + 1, target)))
    return slices[0], slices[1]


def hysteresis(probability: np.ndarray, low: float, high: float) -> np.ndarray:
    """
    The components above ``low`` that reach ``high`` somewhere, as ``unetv2_monai.HysteresisThresholdd`` keeps them.

    Pixels that touch at a corner are connected. Components are found by runs: the pixels of one row that are next to
    each other.

    Args:
        probability: (height, width).
        low: a pixel is marked above it.
        high: a component is kept if it reaches it.

    Returns:
        The mask, boolean.
    """
    marked = probability > low
    padded = np.zeros((marked.shape[0], marked.shape[1] + 3), dtype=np.int8)  # so that rows do not touch
    padded[:, 1:-2] = marked
    change = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    width = padded.shape[1]
    # the runs of the next row that touch each run, also at a corner
    first = np.searchsorted(stops, starts + width, "left")
    count = np.maximum(np.searchsorted(starts, stops + width, "right") - first, 0)
    upper = np.repeat(np.arange(len(starts)), count)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    component = _components(len(starts), upper, lower)

    reached = np.zeros(padded.shape, dtype=np.int64)
    reached[:, 1:-2] = marked & (probability >= high)
    total = np.concatenate([[0], np.cumsum(reached.ravel())])
    kept = np.zeros(len(starts), dtype=bool)
    kept[component[total[stops] > total[starts]]] = True
    edges = np.zeros(padded.size, dtype=np.int8)
    chosen = kept[component]
    edges[starts[chosen]] = 1
    edges[stops[chosen]] = -1
    return np.cumsum(edges, dtype=np.int8).reshape(padded.shape)[:, 1:-2].astype(bool)


def _components(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each of ``count`` nodes the smallest node that edges ``one[i]`` to ``other[i]`` connect it to."""
    label = np.arange(count)
    while (label[one] != label[other]).any():
        lowest = np.minimum(label[one], label[other])
        np.minimum.at(label, label[one], lowest)
        np.minimum.at(label, label[other], lowest)
        while (label[label] != label).any():
            label = label[label]
    return label


def measure(mask: np.ndarray, probability: np.ndarray, description: Description) -> Finding:
    """
    Args:
        mask: class indices, (height, width).
        probability: (height, width, channels) at the network's size.
        description: of the network.
    """
    marked = mask > 0
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    box = None
    if len(rows):
        left, top = int(columns[0]), int(rows[0])
        box = (left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)
    areas = tuple(np.count_nonzero(mask == index) / mask.size for index in range(1, len(description.classes)))
    above_background = probability if description.threshold is not None else probability[..., 1:]
    return Finding(box is not None, sum(areas), float(above_background.max()), box, areas)
