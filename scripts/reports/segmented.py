# SPDX-License-Identifier: Apache-2.0
"""Scored images segmented again, to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from common.slices import Slices
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import load_weights, to_rgb
from unetv2_monai.core.overlay import MASK_COLOR, PREDICTION_COLOR, outlined, side_by_side

from .scored import Case

__all__ = ["Segmented", "predict"]

PANEL_HEIGHT, VOLUME_PANEL_HEIGHT = 240, 480  # pixels


@dataclass(frozen=True)
class Segmented:
    """
    Args:
        image: RGB, of shape (height, width, 3).
        mask, prediction: of one class of it, of shape (height, width).
        panel_height: in pixels, as shown.
    """

    image: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray
    panel_height: int = PANEL_HEIGHT

    def row(self, title: str) -> Image.Image:
        """All three side by side."""
        panels = [self.image]
        for mask, color in ((self.mask, MASK_COLOR), (self.prediction, PREDICTION_COLOR)):
            panels.append(outlined(self.image, mask, color))
        return side_by_side(panels, [title], self.panel_height)


def predict(parser: ConfigParser, items: Mapping[Case, dict[str, str]]) -> dict[Case, Segmented]:
    """The cases in ``items`` at native size; of volumes three slices."""
    parser["validate#dataset#data"] = list({path: item for (path, _), item in items.items()}.values())
    parser["validate#handlers"] = []
    load_weights(parser.get_parsed_content("network"), parser.get_parsed_content("checkpoint"))
    evaluator = parser.get_parsed_content("validate#evaluator")
    found: dict[Case, Segmented] = {}

    def keep(engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output):
            path = str(item["image"].meta["filename_or_obj"])
            for case in items:
                if case[0] == path:
                    channel = case[1] if len(output["pred"]) > 1 else 0  # one channel has no background
                    mask, pred = (output[key][channel].cpu().numpy() > 0 for key in ("label", "pred"))
                    found[case] = planes(path, mask, pred)

    evaluator.add_event_handler("ITERATION_COMPLETED", keep)
    evaluator.run()
    return found


def planes(path: str, mask: np.ndarray, pred: np.ndarray) -> Segmented:
    """An image, rows first, or the slices of a volume with most of the mask; without one, of the prediction."""
    if mask.ndim == 2:
        with Image.open(path) as opened:
            return Segmented(np.asarray(to_rgb(opened)), mask.T, pred.T)
    volume: Any = nibabel.load(path)
    slices = Slices.through(mask if mask.any() else pred, volume.affine)
    image = slices.of_image(np.asanyarray(volume.dataobj))
    return Segmented(image, slices.of_mask(mask), slices.of_mask(pred), VOLUME_PANEL_HEIGHT)
