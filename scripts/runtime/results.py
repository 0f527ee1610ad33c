# SPDX-License-Identifier: Apache-2.0
"""Turn frames into masks, overlays and rows of the table. A frame is decoded, prepared, inferred, thresholded,
measured, drawn and written.

Threads work at the same time, each on other frames: one decodes, some prepare and wait for the network (which has
threads of its own), one makes masks and overlays, and the main thread writes.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unetv2_monai.core.description import Description
from unetv2_monai.core.files import grey_png, write_atomic
from unetv2_monai.core.frames import Frame
from unetv2_monai.core.hysteresis import hysteresis
from unetv2_monai.core.images import resize
from unetv2_monai.core.lesions import measure_lesions
from unetv2_monai.core.overlay import PREDICTION_COLOR, outlined

from .frames import ahead, in_threads
from .network import Network, Output


@dataclass(frozen=True)
class Settings:
    """The options of segment.py, as its ``--help`` describes them."""

    model: Path
    inputs: list[str]
    output_dir: Path
    opacity: float = 0.3
    no_overlays: bool = False
    video_masks: bool = False
    skip_finished: bool = False
    precision: str = "f32"
    certainty: float | None = None
    smoothing: float = 0.0
    presence: tuple[float, float] | None = None
    color_matrix: str | None = None
    seg: list[str] | None = None
    seg_codes: str | None = None
    labelmap: bool = False


@dataclass(frozen=True)
class Result:
    """A frame, its mask of class indices (height, width), its overlay, its cells of the table, and its lesions."""

    frame: Frame
    mask: np.ndarray
    overlay: np.ndarray | None
    cells: list[str]
    lesions: list[list[Any]]


def results(frames: Iterable[Frame], network: Network, settings: Settings) -> Generator[Result, None, None]:
    """Segment frames, and yield one result for each in order. Smoothing and presence need the frames of one video."""

    def draw(found: tuple[Output, bool]) -> Result:
        output, present = found
        image, size = output.frame.image, output.frame.image.shape[:2]
        mask = np.zeros(size, dtype=np.uint8)
        shape = size if network.description.threshold is not None else (*size, output.probability.shape[2])
        probability = np.empty(shape, dtype=np.float32)  # read in the box of what is marked
        if present:
            view = output.frame.view
            _threshold(output.probability, network.description, out=mask[view], probabilities=probability[view])
        overlay = None if settings.no_overlays else outlined(image, mask > 0, PREDICTION_COLOR, settings.opacity)
        cells = measure(mask, output.highest, output.milliseconds, network.description.classes)
        lesions = measure_lesions(mask.T, probability.T, output.frame.spacing)
        return Result(output.frame, mask, overlay, cells, lesions)

    outputs = in_threads(network.infer, ahead(frames), network.threads)
    return in_threads(draw, _with_presence(_smoothed(outputs, settings.smoothing), settings.presence))


def _smoothed(outputs: Iterable[Output], smoothing: float) -> Iterator[Output]:
    """Mix each frame's probabilities with those of the frames before it that have the same view."""
    before: Output | None = None
    for output in outputs:
        if smoothing and before and before.frame.view == output.frame.view:
            mixed = smoothing * before.probability + (1 - smoothing) * output.probability
            output = replace(output, probability=mixed)
        before = output
        yield output


def _with_presence(outputs: Iterable[Output], limits: tuple[float, float] | None) -> Iterator[tuple[Output, bool]]:
    """Add whether a lesion is present: from the first limit on, until the probability falls below the second."""
    present = limits is None
    for output in outputs:
        if limits is not None:
            present = output.highest >= limits[1 if present else 0]
        yield output, present


def _threshold(probability: np.ndarray, description: Description, out: np.ndarray, probabilities: np.ndarray) -> None:
    """Write class indices into an empty mask of a view, and probabilities into an array, at least where marked."""
    if description.threshold is None:
        probabilities[:] = resize(probability, out.shape)
        out[:] = probabilities.argmax(2)
        return
    region = _region(probability[..., 0] >= description.threshold, out.shape)
    if region is not None:  # elsewhere no interpolated value reaches the threshold
        probabilities[region] = values = resize(probability[..., 0], out.shape, region)
        out[region] = hysteresis(values, description.threshold, description.certainty)


def _region(marked: np.ndarray, size: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Return the rows and columns of the resized image that marked pixels contribute to, or None."""
    slices = []
    for axis, target in enumerate(size):
        found = np.flatnonzero(marked.any(1 - axis))
        if len(found) == 0:
            return None
        scale = target / marked.shape[axis]
        first, last = int((found[0] - 1) * scale), int((found[-1] + 2) * scale) + 1
        slices.append(slice(max(first - 1, 0), min(last + 1, target)))
    return slices[0], slices[1]


def save_mask(mask: np.ndarray, path: Path, description: Description) -> None:
    """Write a mask as a PNG file, atomically: 0 and 255 for one structure, else class indices."""
    values = mask * 255 if description.threshold is not None else mask
    write_atomic(path, grey_png(values))


def beside(table: Path, ending: str) -> Path:
    """Return the path of a video's ``"lesions.csv"`` or ``"overlay.mp4"``, by that of its table."""
    return table.with_name(f"{table.stem}_{ending}")


def columns(classes: Sequence[str]) -> list[str]:
    """Return the columns that :py:func:`measure` fills; ``classes``: the classes' names, background first."""
    each = [f"area {name}" for name in classes[1:]] if len(classes) > 2 else []
    return ["lesion", "area", "probability", "left", "top", "width", "height", "ms", *each]


def measure(mask: np.ndarray, probability: float, milliseconds: float, classes: Sequence[str]) -> list[str]:
    """Compute the cells of :py:func:`columns` from a mask of class indices (height, width).

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
