# SPDX-License-Identifier: Apache-2.0
"""Calibrate trained weights: fit a temperature, choose the certainty, and write both into new weights."""

import copy
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import convert_to_tensor
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from ..core.errors import InputError
from ..core.files import write_atomic
from ..detection import Detections
from ..metrics import expected_calibration_error
from ..networks import UNetV2, options_of, read_weights, with_options
from .score_table import DETECTION_SCORES, ScoreTable

PIXELS = 16384  # drawn from each image, for the temperature
LIMIT = 4.0  # of the temperature's logarithm


class Calibration:
    """Calibrate weights on the images of an evaluator, in this order: run it, ``fit``, run it again, ``write``.

    The temperature, which divides the logits, is the one of least cross-entropy. It is folded into the network's heads,
    so whatever uses the weights has calibrated probabilities. The second run gives the regions for the certainty.

    ``scores`` is the table of the same evaluator, into whose ``network`` another handler loads the weights. ``target``
    is the file for the new ones. ``asked`` are arguments of :py:func:`choose_certainty`; if all are None, it stays.

    Raises:
        InputError: when the network has no heads, ``target`` exists, or what is asked for is impossible.
    """

    def __init__(self, scores: ScoreTable, network: Any, target: str, asked: dict, overwrite: bool = False) -> None:
        self.asked = {name: value for name, value in asked.items() if value is not None}
        if not isinstance(network, UNetV2):
            raise InputError(f"only the heads of UNetV2 take a temperature; the network is {type(network).__name__}.")
        if Path(target).exists() and not overwrite:
            raise InputError(f"{target} exists. Name another --calibrated_checkpoint, or set --overwrite true.")
        if len(self.asked) > 1 or (self.asked and scores.out_channels > 1):
            raise InputError("set only one of --false_alarms and --missed, and only for one structure.")
        self.scores, self.network, self.target = scores, network, Path(target)
        self.temperature, self.before = 1.0, float("nan")
        self.pixels: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.random = torch.Generator().manual_seed(0)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output has ``logits`` and ``label``, after the handler that loads weights."""
        engine.add_event_handler(Events.STARTED, self._fold)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)

    def _fold(self, engine: Engine) -> None:
        self.network.load_state_dict(folded(self.network.state_dict(), self.temperature))

    def _collect(self, engine: Engine) -> None:
        for output in engine.state.output:  # type: ignore[union-attr]
            logits, label = (convert_to_tensor(output[key]).flatten(1).float().cpu() for key in ("logits", "label"))
            if "valid" in output:
                known = output["valid"].flatten().cpu()
                logits, label = logits[:, known], label[:, known]
            if not label.numel():
                continue
            drawn = torch.randint(logits.shape[1], (PIXELS,), generator=self.random)
            self.pixels.append((logits[:, drawn], label[:, drawn]))

    def fit(self) -> None:
        """Fit the temperature to the pixels of the first run; the next run uses it."""
        self.before = self._error()
        self.temperature = fit_temperature(*(torch.cat(parts, dim=1) for parts in zip(*self.pixels)))
        print(f"temperature {self.temperature:.3f}; the scores with it:")

    def _error(self) -> float:
        return expected_calibration_error(np.sum([json.loads(row)["bins"] for row in self.scores.rows], axis=0))

    def write(self) -> None:
        """Choose the certainty by the second run, write the weights, and print what was chosen."""
        rows = list(map(json.loads, self.scores.rows))
        found = Detections(row["detected"] for row in rows)
        certainty = choose_certainty(found, **self.asked) if self.asked else self.scores.certainty
        weights = read_weights(self.scores.checkpoints[0])
        options, images = options_of(weights), len({row["image"] for row in rows})
        total = self.temperature * options.get("calibrated", {}).get("temperature", 1.0)
        options |= {"certainty": certainty, "calibrated": {"temperature": total, "images": images, **self.asked}}
        content = with_options(folded(weights, self.temperature), options)
        write_atomic(self.target, lambda opened: torch.save(content, opened))
        print(f"ECE {self.before:.4f} before, {self._error():.4f} after calibration, on these {images} images")
        summary = found.summary(certainty)
        cells = ", ".join(f"{score.title} {score.cell(summary)}" for score in DETECTION_SCORES)
        print(f"certainty {certainty:.4f}: {cells}\nweights: {self.target}")


def fit_temperature(logits: torch.Tensor, label: torch.Tensor) -> float:
    """Return what logits must be divided by for the least cross-entropy; raise InputError if that is at 0 or infinity.

    Based on: "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599. ``logits`` and the
    true classes, 0 and 1, have the shape (channels, pixels), with one channel for a sigmoid, several for a softmax.
    """

    def loss(log: float) -> float:
        scaled = logits / math.exp(log)
        if len(logits) == 1:
            return F.binary_cross_entropy_with_logits(scaled, label).item()
        return F.cross_entropy(scaled.T, label.T).item()

    least = minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded")
    if abs(least.x) > LIMIT - 0.1 or least.fun < 1e-6:
        raise InputError("no temperature fits these images: each pixel is right, or drawn by lot. Take other images.")
    return math.exp(least.x)


def folded(weights: Mapping[str, torch.Tensor], temperature: float) -> Any:
    """Return weights of UNetV2 whose logits are divided by a temperature; all heads are, to keep their proportion."""
    result: Any = copy.copy(weights)  # with the metadata
    for key in filter(re.compile(r"heads\.\d+\.(weight|bias)").fullmatch, weights):
        result[key] = weights[key] / temperature
    return result


def choose_certainty(found: Detections, false_alarms: float | None = None, missed: float | None = None) -> float:
    """Choose the lowest certainty with at most ``false_alarms`` per 100 images that still finds a lesion, or the
    highest one that misses at most ``missed`` percent of the lesions. An InputError names the best one otherwise.
    """
    limit, unit = (false_alarms, "false alarms per 100 images") if missed is None else (missed, "% of lesions missed")
    costs = [
        (rates["false_alarms"] if missed is None else 100 * (1 - rates["found"]), point)
        for point, rates in ((float(point), found.rates(point)) for point in found.points())
        if rates["found"] > 0
    ]
    fit = [point for cost, point in costs if cost <= float(limit or 0) + 1e-9]
    if not fit:
        best = "{:.1f}, at certainty {:.3f}".format(*min(costs)) if costs else "none, since no lesion is found"
        raise InputError(f"no certainty has at most {limit} {unit} on these images; the best is {best}.")
    return fit[0] if missed is None else fit[-1]
