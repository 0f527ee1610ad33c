# SPDX-License-Identifier: Apache-2.0
"""
From the network's outputs to masks, overlays and rows of the table.

Threads work at the same time, each on other frames: one decodes, one prepares and starts the network (which has threads
of its own), one makes masks and overlays, and the main one writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from unetv2_monai.core.overlay import PREDICTION_COLOR, outlined

from .files import atomic
from .images import Frame
from .masks import Finding, measure, probabilities, to_mask
from .network import Network, Segmented

__all__ = ["AHEAD", "Drawn", "Settings", "columns", "draw", "save_mask"]

AHEAD = 4  # frames between two threads


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


@dataclass(frozen=True)
class Drawn:
    """
    Args:
        frame: what was segmented.
        mask: class indices.
        overlay: the image with the mask on it; None if none is asked for.
        row: of the table, without the name.
    """

    frame: Frame
    mask: np.ndarray
    overlay: np.ndarray | None
    row: list[str]


def draw(segmented: Iterable[Segmented], network: Network, settings: Settings, is_video: bool) -> Iterator[Drawn]:
    """Masks, overlays and rows of the table; of a video with what was seen before."""
    description, before, present = network.description, None, False
    for one in segmented:
        image = one.frame.image
        probability = probabilities(one.logits)
        if is_video and settings.smoothing and before is not None:
            probability = settings.smoothing * before + (1 - settings.smoothing) * probability
        before = probability
        mask = to_mask(probability, image.shape[:2], description)
        found = measure(mask, probability, description)
        if is_video and settings.presence:
            present = found.probability >= settings.presence[1 if present else 0]
            if not present:
                mask = np.zeros_like(mask)
                found = measure(mask, probability, description)
        overlay = None
        if not settings.no_overlays:
            overlay = outlined(image, mask > 0, PREDICTION_COLOR, settings.opacity)
        yield Drawn(one.frame, mask, overlay, _row(found, one.milliseconds))


def columns(network: Network) -> list[str]:
    classes = network.description.classes[1:]
    each = [f"area {name}" for name in classes] if len(classes) > 1 else []
    return ["lesion", "area", "probability", "left", "top", "width", "height", "ms", *each]


def _row(found: Finding, milliseconds: float) -> list[str]:
    each = [f"{share:.6f}" for share in found.areas] if len(found.areas) > 1 else []
    box = [str(value) for value in found.box or [""] * 4]
    return [str(int(found.lesion)), f"{found.area:.6f}", f"{found.probability:.4f}", *box, f"{milliseconds:.1f}", *each]


def save_mask(mask: np.ndarray, path: Path, network: Network) -> None:
    with atomic(path) as partial:
        values = mask * 255 if network.description.threshold is not None else mask
        Image.fromarray(values).save(partial, compress_level=1)
