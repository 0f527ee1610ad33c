# SPDX-License-Identifier: Apache-2.0
"""Convert mask files to class indices, and probabilities to masks by a threshold with hysteresis."""

import itertools

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError

DARK, BRIGHT = 32, 223  # a 0/255 mask has no values between these ...
MAX_BETWEEN, MAX_BETWEEN_LOSSY = 0.001, 0.02  # ... except in this share of its pixels, on the outline


def to_mask(image: Image.Image, out_channels: int = 1) -> Image.Image:
    """
    Convert a mask to class indices.

    Args:
        image: an opened mask. For one class it holds 0/1, 0/255, or the palette entries 0 (black) and 1. Lossy values
            between 0 and 255 (JPEG, smoothed outlines) are thresholded at half. For several classes it holds grey
            values or palette entries from 0 to ``out_channels - 1``.
        out_channels: output channels of the network. 1 means one class with a sigmoid. Defaults to 1.

    Returns:
        The mask in mode ``"L"`` with values 0 and 1, or 0 to ``out_channels - 1``.

    Raises:
        InputError: when the mask has other values; the message states them.
    """
    lossy = image.format == "JPEG"
    name = getattr(image, "filename", "") or "mask"
    image = ImageOps.exif_transpose(image)
    if out_channels > 1:
        values = np.asarray(image if image.mode in ("P", "L", "I", "I;16") else image.convert("L"))
        if values.max() >= out_channels:
            raise InputError(
                f"{name}: mask values {_shown(values)}, but with out_channels {out_channels} only "
                f"0 to {out_channels - 1} are classes. Map the values, or raise out_channels."
            )
        return Image.fromarray(values.astype(np.uint8))

    if image.mode == "P" and (image.getpalette() or [])[:3] == [0, 0, 0]:
        entries = np.asarray(image)
        if entries.max() <= 1:  # the class may have any colour in the palette, as in VOC
            return Image.fromarray(entries)
    values = np.asarray(image.convert("L"))
    highest = values.max()
    if highest <= 1:
        return Image.fromarray(values)
    if highest <= DARK and lossy:  # an empty mask with compression noise
        return Image.fromarray(np.zeros_like(values))
    between = np.mean((values > DARK) & (values < BRIGHT))
    if highest < BRIGHT or between > (MAX_BETWEEN_LOSSY if lossy else MAX_BETWEEN):
        raise InputError(
            f"{name}: mask values {_shown(values)}, but a mask of one class holds 0 and 1, or 0 and 255. "
            "Map the values, or for several classes set out_channels to their number, background included."
        )
    return Image.fromarray((values > 127).astype(np.uint8))


def _shown(values: np.ndarray) -> str:
    found = np.unique(values)
    return ", ".join(map(str, found[:8])) + (f", ... ({len(found)} different)" if len(found) > 8 else "")


def hysteresis(probability: np.ndarray, low: float, high: float) -> np.ndarray:
    """
    Threshold probabilities of shape (dim_0, dim_1[, dim_2]), and keep only the connected components that are certain.

    A pixel is marked if it reaches ``low``. A component is kept if it reaches ``high``; if ``high`` is at most ``low``,
    all are kept. Pixels that touch at a corner are connected. The method is that of J. Canny, "A computational approach
    to edge detection", IEEE TPAMI 8(6), 1986, section VIII. With few large components it takes a fraction of the time
    of ``scipy.ndimage.label``, in pure noise several times as long.
    """
    if high <= low:
        return probability >= low
    padded = np.pad(probability, 1, constant_values=-1)  # so that no run continues in the next row
    values = padded.ravel()
    marked = values >= low
    edges = np.flatnonzero(marked[1:] != marked[:-1]) + 1
    starts, stops = edges[::2], edges[1::2]
    peaks = np.maximum.reduceat(values, edges)[::2]

    component = _components(starts, stops, [stride // padded.itemsize for stride in padded.strides[:-1]])
    certain = np.zeros(len(starts), dtype=bool)
    certain[component[peaks >= high]] = True
    kept = np.zeros(len(edges) + 1, dtype=bool)  # one value before, in, between and after the runs
    kept[1::2] = certain[component]
    mask = np.repeat(kept, np.diff(edges, prepend=0, append=values.size)).reshape(padded.shape)
    return mask[(slice(1, -1),) * mask.ndim]


def _components(starts: np.ndarray, stops: np.ndarray, rows: list[int]) -> np.ndarray:
    """Label each run (marked pixels in a row) by the smallest index in its component; ``rows``: strides of the axes."""
    upper, lower = [], []
    for step in itertools.product((-1, 0, 1), repeat=len(rows)):
        if step > (0,) * len(rows):  # one direction is enough to find each pair of neighbours once
            distance = int(np.dot(step, rows))
            first = np.searchsorted(stops, starts + distance, "left")
            count = np.searchsorted(starts, stops + distance, "right") - first
            upper.append(np.repeat(np.arange(len(starts)), count))
            lower.append(np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count))
    one, other = np.concatenate(upper), np.concatenate(lower)
    label = np.arange(len(starts))
    while len(one):
        lowest = np.minimum(label[one], label[other])
        np.minimum.at(label, label[one], lowest)
        np.minimum.at(label, label[other], lowest)
        while (label[label] != label).any():
            label = label[label]
        apart = label[one] != label[other]
        one, other = one[apart], other[apart]
    return label
