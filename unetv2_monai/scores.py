# SPDX-License-Identifier: Apache-2.0
"""Scores of an evaluation: one row per image in ``scores.csv``, one summary per data set, printed and written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.metrics import compute_hausdorff_distance
from monai.utils import convert_to_tensor, string_list_all_gather
from scipy.stats import bootstrap
from torch.nn import functional as F

from .files import write_whole
from .runs import config_as_run
from .unetv2 import UNetV2

__all__ = ["ScoreTable", "count_scores", "expected_calibration_error", "released_scores", "summarise"]

MEANS = ("dice", "iou", "mae", "hd95", "precision", "recall", "released_dice", "released_iou")
COUNTS = ("tp", "fp", "fn")
BINS = 20


def count_scores(tp: float, fp: float, fn: float) -> dict[str, float]:
    """
    Scores of one structure from its counts of pixels.

    Args:
        tp, fp, fn: pixels that are true positive, false positive, false negative; of one image, or pooled over many.

    Returns:
        ``dice``, ``iou``, ``precision`` and ``recall``. Where neither mask nor prediction has a pixel, Dice and IoU are
        1; precision without any prediction and recall without any lesion are nan.
    """
    return {
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
        "iou": tp / (tp + fp + fn) if tp + fp + fn else 1.0,
        "precision": tp / (tp + fp) if tp + fp else float("nan"),
        "recall": tp / (tp + fn) if tp + fn else float("nan"),
    }


def released_scores(logits: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    """
    Dice and IoU of one image as the released code of U-Net v2 computes them for polyps.

    The sum of the logits of the two finest heads is enlarged to the size of the mask; its sigmoid is stretched to 0 to
    1 within the image, then cut at 0.5. The stretching marks something on every image, also on one without a lesion.

    Args:
        logits: summed logits of shape (1, height, width).
        label: the mask, 0 and 1, of shape (1, native height, native width).

    Returns:
        ``released_dice`` and ``released_iou``.
    """
    enlarged = F.interpolate(logits[None].float(), size=label.shape[1:], mode="bilinear", align_corners=False)[0]
    probability = torch.sigmoid(enlarged)
    lowest, highest = probability.min(), probability.max()
    pred = ((probability - lowest) / (highest - lowest + 1e-8) >= 0.5).float()
    overlap, total, smooth = (pred * label).sum().item(), (pred.sum() + label.sum()).item(), 1e-5
    dice = (2 * overlap + smooth) / (total + smooth)
    return {"released_dice": dice, "released_iou": (overlap + smooth) / (total - overlap + smooth)}


def calibration_bins(probability: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """Number of pixels, sum of probabilities and number of lesion pixels in 20 equal bins of probability; (20, 3)."""
    p, y = probability.flatten().double(), label.flatten().double()
    index = (p * BINS).long().clamp(0, BINS - 1)
    sums = [torch.bincount(index, weights=w, minlength=BINS) for w in (torch.ones_like(p), p, y)]
    return torch.stack(sums, dim=1).cpu().numpy()


def expected_calibration_error(bins: np.ndarray) -> float:
    """
    Expected calibration error: mean difference of probability and share of lesion pixels, over bins of probability.

    Based on: "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599, equation 3, of the
    foreground's probability.

    Args:
        bins: number of pixels, sum of probabilities and number of lesion pixels per bin, of shape (bins, 3).

    Returns:
        The error, 0 to 1.
    """
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / max(bins[:, 0].sum(), 1.0))


def summarise(rows: Sequence[dict[str, Any]], bins: np.ndarray, resamples: int = 2000) -> dict[str, Any]:
    """
    Summarise the images of one data set (and one class).

    Args:
        rows: one dictionary per image with the columns of ``scores.csv``.
        bins: see :py:func:`expected_calibration_error`.
        resamples: number of bootstrap samples of images. Defaults to 2000.

    Returns:
        ``images``; per score its ``mean`` over images, ``median`` and 95 % percentile-bootstrap ``interval``; the
        scores of all pixels ``pooled``; ``ece`` and its ``calibration`` bins; on images with no lesion how many are
        left empty (``lesion_free``); how many lesions are ``missed``: predictions that touch none of the mask.
    """
    summary: dict[str, Any] = {"images": len(rows)}
    for name in MEANS:
        values = np.array([row[name] for row in rows if name in row], dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            summary[name] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "interval": _interval((values,), lambda x, axis: x.mean(axis=axis), resamples),
                "images": len(values),
            }
    counts = tuple(np.array([row[name] for row in rows], dtype=float) for name in COUNTS)
    pooled = count_scores(*(count.sum() for count in counts))
    pooled["dice_interval"] = _interval(counts, _pooled_dice, resamples)  # type: ignore[assignment]
    summary["pooled"] = pooled
    summary["ece"] = expected_calibration_error(bins)
    summary["calibration"] = bins.tolist()
    lesion_free = [row for row in rows if row["tp"] + row["fn"] == 0]
    summary["lesion_free"] = {"images": len(lesion_free), "left_empty": sum(row["fp"] == 0 for row in lesion_free)}
    summary["missed"] = sum(row["tp"] == 0 and row["fn"] > 0 for row in rows)
    return summary


def _pooled_dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    total = 2 * tp.sum(axis=axis) + fp.sum(axis=axis) + fn.sum(axis=axis)
    return np.where(total > 0, 2 * tp.sum(axis=axis) / np.maximum(total, 1), 1.0)


def _interval(values: tuple[np.ndarray, ...], statistic: Any, resamples: int) -> list[float] | None:
    """95 % interval over images; None for a single image."""
    if len(values[0]) < 2:
        return None
    result = bootstrap(
        values, statistic, paired=len(values) > 1, vectorized=True, n_resamples=resamples, batch=200,
        method="percentile", random_state=0,
    ).confidence_interval  # fmt: skip
    return [float(result.low), float(result.high)]


class ScoreTable:
    """
    Ignite handler of an evaluator: scores every image at native size, then writes ``scores.csv`` (a row per image and
    class), ``summary.json`` and the ``config.json`` as run, and prints a table with one column per data set.

    Per image, at probability 0.5: Dice, IoU, precision, recall, 95 % Hausdorff distance (``hd95``, in pixels, or mm for
    volumes; over images where mask and prediction both have pixels), and the mean absolute error of the probability
    (``mae``). For one class also the released code's own scoring, see :py:func:`released_scores`; networks other than
    UNetV2 are scored that way by their one output. It is left out where an image takes several forward passes (windows,
    flips). Works on several processes.

    Args:
        output_dir: folder to write to.
        dataset: name of the data set of items without a ``dataset`` of their own.
        out_channels: channels of the network; classes above 0 are scored. Defaults to 1.
        rank: process; the first one writes and prints. Defaults to 0.

    Raises:
        InputError: when ``output_dir`` cannot be written.
    """

    def __init__(self, output_dir: str, dataset: str, out_channels: int = 1, rank: int = 0) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.out_channels = out_channels
        self.rank = rank
        self.config = config_as_run()
        self.rows: list[str] = []
        self.released: list[dict[str, float]] = []
        self.decoded: list[torch.Tensor] = []
        self.passes = 0
        self.hook: Any = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a :py:class:`monai.engines.SupervisedEvaluator` whose output has ``pred``, ``prob`` and ``label``.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._score_as_released)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.rows = []
        network = _network(engine)
        if self.out_channels == 1 and self.hook is None and isinstance(network, UNetV2):
            self.hook = network.decoder.register_forward_hook(self._keep_decoded)

    def _keep_decoded(self, module: torch.nn.Module, inputs: Any, output: list[torch.Tensor]) -> None:
        self.decoded, self.passes = output, self.passes + 1  # the last alone: windows may be many

    @torch.no_grad()
    def _score_as_released(self, engine: Engine) -> None:
        """Before postprocessing, where logits and the untouched mask have the same orientation."""
        output: Any = engine.state.output
        logits, labels = output["pred"], output["label"]
        passes, self.passes = self.passes, 0
        self.released = [{} for _ in labels]
        if self.out_channels > 1 or logits.ndim != 4 or (self.hook and passes != 1):
            return
        if passes:
            network = _network(engine)
            coarse = network.enlarge(network.heads[1](self.decoded[1].float()))  # autocast has ended here
            logits = logits + F.interpolate(coarse, size=logits.shape[2:], mode="bilinear", align_corners=False)
        self.released = [released_scores(one, label) for one, label in zip(logits, labels)]

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        items = zip(state.batch, state.output, self.released)
        for item, output, released in items:
            for channel in range(1 if self.out_channels > 1 else 0, self.out_channels):
                pred, label = (output[key][channel].bool() for key in ("pred", "label"))
                prob = output["prob"][channel].float()
                tp, fp = (pred & label).sum().item(), (pred & ~label).sum().item()
                fn = (~pred & label).sum().item()
                row = {"dataset": item.get("dataset", self.dataset)}
                row |= {"image": str(item["image"].meta["filename_or_obj"]), "class": max(channel, 1)}
                row |= count_scores(tp, fp, fn) | {"mae": (prob - label.float()).abs().mean().item()}
                row |= {"hd95": _hd95(pred, label, getattr(output["label"], "pixdim", None))} | released
                row |= {"tp": tp, "fp": fp, "fn": fn, "tn": label.numel() - tp - fp - fn}
                row["bins"] = calibration_bins(prob, label).tolist()
                self.rows.append(json.dumps(row))

    def _write(self, engine: Engine) -> None:
        parsed = [json.loads(row) for row in string_list_all_gather(self.rows)]
        if self.rank > 0:
            return
        # processes repeat images so that their shares are equal
        rows = list({(row["image"], row["class"]): row for row in parsed}.values())
        if not all("released_dice" in row for row in rows):  # some images took one window, some several
            rows = [{key: value for key, value in row.items() if not key.startswith("released")} for row in rows]
        summary = {}
        for name in sorted({_group(row, self.out_channels) for row in rows}):
            group = [row for row in rows if _group(row, self.out_channels) == name]
            summary[name] = summarise(group, np.sum([row["bins"] for row in group], axis=0))
        write_whole(self.output_dir / "config.json", json.dumps(self.config, indent=1, default=str) + "\n")
        write_whole(self.output_dir / "summary.json", json.dumps(summary, indent=1) + "\n")
        columns = [key for key in rows[0] if key != "bins"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.output_dir / "scores.csv", text.getvalue())
        print(table(summary))


def table(summary: dict[str, Any]) -> str:
    """The summaries as text, one column per data set: means over images with their 95 % intervals, then the rest."""

    def spread(value: dict[str, Any] | None, digits: int = 3) -> str:
        if value is None:
            return "-"
        low, high = value["interval"] or (float("nan"),) * 2
        return f"{value['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    def pooled(one: dict[str, Any]) -> str:
        low, high = one["pooled"]["dice_interval"] or (float("nan"),) * 2
        return f"{one['pooled']['dice']:.3f} [{low:.3f}, {high:.3f}]"

    lines: list[tuple[str, Any]] = [
        ("", lambda name, one: f"{name} ({one['images']})"),
        ("Dice", lambda name, one: spread(one.get("dice"))),
        ("IoU", lambda name, one: spread(one.get("iou"))),
        ("MAE", lambda name, one: spread(one.get("mae"), 4)),
        ("HD95", lambda name, one: spread(one.get("hd95"), 1)),
        ("precision", lambda name, one: spread(one.get("precision"))),
        ("recall", lambda name, one: spread(one.get("recall"))),
        ("pooled Dice", lambda name, one: pooled(one)),
        ("pooled IoU", lambda name, one: f"{one['pooled']['iou']:.3f}"),
        ("ECE", lambda name, one: f"{one['ece']:.4f}"),
        ("lesions missed", lambda name, one: f"{one['missed']}"),
        (
            "lesion-free, left empty",
            lambda name, one: "{left_empty} of {images}".format(**one["lesion_free"]),
        ),
        ("Dice as released", lambda name, one: spread(one.get("released_dice"))),
        ("IoU as released", lambda name, one: spread(one.get("released_iou"))),
    ]
    cells = [[title, *(cell(name, one) for name, one in summary.items())] for title, cell in lines]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)


def _group(row: dict[str, Any], out_channels: int) -> str:
    return row["dataset"] if out_channels <= 2 else f"{row['dataset']} class {row['class']}"


def _network(engine: Any) -> Any:
    return getattr(engine.network, "module", engine.network)  # DistributedDataParallel


def _hd95(pred: torch.Tensor, label: torch.Tensor, spacing: Any) -> float:
    if not pred.any() or not label.any():
        return float("nan")
    spacing = None if spacing is None else [float(s) for s in spacing[: pred.ndim]]
    y_pred, y = (convert_to_tensor(mask)[None, None] for mask in (pred, label))
    return compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=spacing).item()
