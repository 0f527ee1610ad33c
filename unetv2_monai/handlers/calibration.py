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
from ..detection import Detections, summarise_detections
from ..metrics import expected_calibration_error
from ..networks import UNetV2, options_of, read_weights, with_options
from .score_table import ScoreTable, detection_cells

__all__ = ["Calibration"]

PIXELS = 16384  # drawn from each image, for the temperature
LIMIT = 4.0  # of the temperature's logarithm


class Calibration:
    """
    Calibrate weights on the images of an evaluator, in this order: run it, ``fit``, run it again, ``write``.

    The temperature divides the logits so that the cross-entropy of the pixels becomes least. It is folded into the
    heads of the network, so whatever uses the weights has the calibrated probabilities. The certainty is then chosen by
    the regions of the second run.

    Args:
        scores: the table of the same evaluator.
        network: the evaluator's network, whose weights another handler loads when a run starts.
        checkpoint: file of the weights.
        target: file for the calibrated weights.
        certainty: the certainty to keep if neither ``false_alarms`` nor ``missed`` is given. Defaults to 0.5.
        false_alarms: choose the lowest certainty with at most so many false alarms per 100 images, with and without a
            lesion. Defaults to None.
        missed: choose the highest certainty that misses at most so many percent of the lesions. Defaults to None.
        overwrite: whether ``target`` may exist. Defaults to False.

    Raises:
        InputError: when the network has no heads, ``target`` exists, or the two numbers are given together or for
            several classes. Later, when no temperature fits, or no certainty keeps what was asked for.
    """

    def __init__(
        self,
        scores: ScoreTable,
        network: torch.nn.Module,
        checkpoint: str,
        target: str,
        certainty: float = 0.5,
        false_alarms: float | None = None,
        missed: float | None = None,
        overwrite: bool = False,
    ) -> None:
        asked = {"false_alarms": false_alarms, "missed": missed}
        self.asked = {name: value for name, value in asked.items() if value is not None}
        if not isinstance(network, UNetV2):
            raise InputError(f"only the heads of UNetV2 take a temperature; the network is {type(network).__name__}.")
        if Path(target).exists() and not overwrite:
            raise InputError(f"{target} exists. Name another --calibrated_checkpoint, or set --overwrite true.")
        if len(self.asked) == 2:
            raise InputError("--false_alarms and --missed each choose the certainty: give one of them.")
        if self.asked and scores.out_channels > 1:
            raise InputError(f"--{next(iter(self.asked))} chooses the certainty, which is for one structure only.")
        self.scores, self.network, self.certainty = scores, network, certainty
        self.checkpoint, self.target = Path(checkpoint), Path(target)
        self.temperature = 1.0
        self.pixels: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.before = float("nan")
        self.random = torch.Generator().manual_seed(0)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output has ``logits`` and ``label``, after the handler that loads weights."""
        engine.add_event_handler(Events.STARTED, self._fold)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)

    def _fold(self, engine: Engine) -> None:
        self.network.load_state_dict(folded(self.network.state_dict(), self.temperature))
        self.pixels = []

    def _collect(self, engine: Engine) -> None:
        for output in engine.state.output:  # type: ignore[union-attr]
            logits, label = (convert_to_tensor(output[key]).flatten(1).float().cpu() for key in ("logits", "label"))
            drawn = torch.randint(logits.shape[1], (PIXELS,), generator=self.random)
            self.pixels.append((logits[:, drawn], label[:, drawn]))

    def fit(self) -> None:
        """Fit the temperature to the pixels of the first run; the next run uses it."""
        self.before = self._error()
        logits, label = (torch.cat(parts, dim=1) for parts in zip(*self.pixels))
        self.temperature = fit_temperature(logits, label)
        print(f"temperature {self.temperature:.3f}; the scores with it:")

    def _error(self) -> float:
        return expected_calibration_error(np.sum([row["bins"] for row in map(json.loads, self.scores.rows)], axis=0))

    def write(self) -> None:
        """Choose the certainty by the second run, write the weights, and print what was chosen."""
        detected = [json.loads(row)["detected"] for row in self.scores.rows]
        if self.asked:
            self.certainty = choose_certainty(Detections.of(detected), **self.asked)
        weights = read_weights(self.checkpoint)
        options = options_of(weights)
        total = self.temperature * options.get("calibrated", {}).get("temperature", 1.0)
        done = {
            "temperature": total,
            "images": len({json.loads(row)["image"] for row in self.scores.rows}),
            **self.asked,
        }
        content = with_options(
            folded(weights, self.temperature), {**options, "certainty": self.certainty, "calibrated": done}
        )
        write_atomic(self.target, lambda opened: torch.save(content, opened))
        print(f"ECE {self.before:.4f} before, {self._error():.4f} after calibration, on these {done['images']} images")
        cells = detection_cells(summarise_detections(detected, self.certainty)).items()
        print(f"certainty {self.certainty:.4f}: {', '.join(f'{title} {cell}' for title, cell in cells)}")
        print(f"weights: {self.target}")


def fit_temperature(logits: torch.Tensor, label: torch.Tensor) -> float:
    """
    Return the number that logits must be divided by for the least cross-entropy.

    Based on: "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599.

    Args:
        logits: of shape (channels, pixels): one channel for a sigmoid, several for a softmax.
        label: the true classes of the same shape, 0 and 1.

    Raises:
        InputError: when the least cross-entropy lies at a temperature near 0 or infinity.
    """

    def loss(log: float) -> float:
        scaled = logits / math.exp(log)
        if len(logits) == 1:
            return F.binary_cross_entropy_with_logits(scaled, label).item()
        return F.cross_entropy(scaled.T, label.T).item()

    log = minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded").x
    if abs(log) > LIMIT - 0.1:
        every = "right" if log < 0 else "as if drawn by lot"
        raise InputError(f"no temperature fits these images: each pixel is {every}. Take more images, or other ones.")
    return math.exp(log)


def folded(weights: Mapping[str, torch.Tensor], temperature: float) -> Any:
    """Return weights of UNetV2 whose logits are divided by a temperature; all heads are, to keep their proportion."""
    result: Any = copy.copy(weights)  # with the metadata
    for key in filter(re.compile(r"heads\.\d+\.(weight|bias)").fullmatch, weights):
        result[key] = weights[key] / temperature
    return result


def choose_certainty(found: Detections, false_alarms: float | None = None, missed: float | None = None) -> float:
    """
    Choose the lowest certainty with at most ``false_alarms`` per 100 images that still finds a lesion, or the highest
    one that misses at most ``missed`` percent of the lesions.

    Raises:
        InputError: when there is none; it names the best that there is.
    """
    name, limit = ("false_alarms", false_alarms or 0.0) if missed is None else ("missed", missed)
    points = []
    for point in found.points():
        rates = found.at(point)
        if rates["found"] or (rates["found"] is None and missed is None):
            cost = rates["false_alarms"] if missed is None else 100 * (1 - (rates["found"] or 0.0))
            points.append((float(cost or 0.0), float(point)))
    if not points:
        raise InputError(f"--{name}: these weights find no lesion on these images. Take images with lesions.")
    fit = [point for cost, point in points if cost <= limit + 1e-9]
    if not fit:
        least, best = min(points)
        unit = "false alarms per 100 images" if missed is None else "% of the lesions missed"
        raise InputError(
            f"--{name} {limit:g} is not reached on these images: the best is {least:.1f} {unit}, at certainty "
            f"{best:.3f}."
        )
    return fit[0] if missed is None else fit[-1]
