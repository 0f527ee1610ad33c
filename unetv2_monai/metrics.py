# SPDX-License-Identifier: Apache-2.0
"""Scores of masks and of probabilities, and their summaries over images."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from monai.networks import one_hot
from monai.utils import convert_to_tensor
from scipy.stats import bootstrap, spearmanr

MEANS = ("dice", "iou", "mae", "hd95", "surface_dice", "precision", "recall", "agreement")
BINS = 20
ROUNDING = 1e-6  # of a spacing in float32, as files have it, relative to the tolerance that was typed


def count_scores(tp: float, fp: float, fn: float) -> dict[str, float]:
    """Score one structure by pixel counts, of one image or summed over many images.

    Args:
        tp, fp, fn: numbers of true positive, false positive and false negative pixels.

    Returns:
        ``dice``, ``iou``, ``precision`` and ``recall``. Dice and IoU are 1 if neither mask nor prediction has a pixel.
        Precision is nan if nothing is predicted, and recall is nan if there is no lesion.
    """
    return {
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
        "iou": tp / (tp + fp + fn) if tp + fp + fn else 1.0,
        "precision": tp / (tp + fp) if tp + fp else float("nan"),
        "recall": tp / (tp + fn) if tp + fn else float("nan"),
    }


def mask_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the Dice score, 0 to 1, of two boolean masks of the same shape. It is 1 if both are empty."""
    both = int((first & second).sum())
    return count_scores(both, int(first.sum()) - both, int(second.sum()) - both)["dice"]


def agreement(probabilities: torch.Tensor) -> torch.Tensor:
    """Compute how far the masks of an ensemble's networks agree: the mean Dice of all pairs of them, for each class.

    Args:
        probabilities: those of one image, of shape (networks, channels, ...), with one channel or the background first.

    Returns:
        Numbers from 0 to 1, one for each class without the background. Two empty masks agree.
    """
    channels = probabilities.shape[1]
    several = channels > 1
    masks = one_hot(probabilities.argmax(1, keepdim=True), channels) if several else (probabilities >= 0.5).float()
    pairs = combinations(masks.split(1), 2)
    return torch.cat([compute_dice(*pair, include_background=not several, ignore_empty=False) for pair in pairs]).mean(
        0
    )


def hausdorff_95(pred: torch.Tensor, label: torch.Tensor, spacing: Any) -> float:
    """Compute the 95 % Hausdorff distance between the outlines of two masks. It is nan if one mask is empty.

    Args:
        pred, label: boolean masks of the same shape, in two or three dimensions.
        spacing: size of a pixel in each dimension; None for distances in pixels.
    """
    if not pred.any() or not label.any():
        return float("nan")
    y_pred, y, sizes = _one_class(pred, label, spacing)
    return compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=sizes).item()


def surface_dice(pred: torch.Tensor, label: torch.Tensor, tolerance: float, spacing: Any) -> float:
    """Compute the surface Dice, also called normalised surface distance.

    It is the share of the voxels on two outlines that are no further than a tolerance from the other outline.

    Based on: "Clinically applicable segmentation of head and neck anatomy for radiotherapy",
    https://arxiv.org/abs/1809.04430, with voxels in place of areas.

    Args:
        pred, label: boolean masks of the same shape, in two or three dimensions.
        tolerance: largest accepted distance, in the unit of the spacing.
        spacing: size of a voxel in each dimension; None for distances in voxels.

    Returns:
        The share, 0 to 1. It is 0 if one of the masks is empty, and nan if both are empty.
    """
    if not pred.any() or not label.any():
        return 0.0 if pred.any() or label.any() else float("nan")
    y_pred, y, sizes = _one_class(pred, label, spacing)
    tolerance *= 1 + ROUNDING
    return compute_surface_dice(y_pred, y, [tolerance], include_background=True, spacing=sizes).item()


def calibration_bins(probability: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """Sort pixels into 20 equal bins by their probability. The bins of several images can be added up.

    MONAI's ``calibration_binning`` gives means per image, in float32, which cannot count beyond 16.8 million.

    Args:
        probability: probability of the foreground, 0 to 1, of any shape.
        label: the mask, 0 and 1, of the same shape.

    Returns:
        Number of pixels, sum of probabilities and number of lesion pixels per bin, of shape (20, 3).
    """
    p, y = probability.flatten().double(), label.flatten().double()
    index = (p * BINS).long().clamp(0, BINS - 1)
    sums = [torch.bincount(index, weights=w, minlength=BINS) for w in (torch.ones_like(p), p, y)]
    return torch.stack(sums, dim=1).cpu().numpy()


def expected_calibration_error(bins: np.ndarray) -> float:
    """Compute the mean gap, 0 to 1, between probability and share of lesion pixels over ``calibration_bins``."""
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / max(bins[:, 0].sum(), 1.0))


def summarise(rows: Sequence[dict[str, Any]], bins: np.ndarray, resamples: int = 2000) -> dict[str, Any]:
    """Summarise the scores of the images of one data set, for one class.

    Args:
        rows: one dictionary per image with the columns of ``scores.csv``.
        bins: sum of the :py:func:`calibration_bins` of the images.
        resamples: number of bootstrap samples of images. Defaults to 2000.

    Returns:
        A dictionary. ``images`` is the number of images. Each score has its ``mean`` over images, its ``median`` and a
        95 % percentile-bootstrap ``interval``. ``agreement`` also has its rank correlation with Dice (``spearman``,
        None if one of them is constant). ``pooled`` has the scores of the pixels of all images together, without
        undefined scores. ``ece`` is the expected calibration error, and ``calibration`` has its bins. ``lesion_free``
        has the number of images without a lesion, and how many of them have no false positive (``left_empty``).
        ``missed`` is the number of images whose prediction touches none of the lesion.
    """
    summary: dict[str, Any] = {"images": len(rows)}
    for name in MEANS:
        values = np.array([row[name] for row in rows if name in row], dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            summary[name] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "interval": bootstrap_interval((values,), np.mean, resamples),
                "images": len(values),
            }
    if "agreement" in summary:
        both = [[row[name] for row in rows] for name in ("agreement", "dice")]
        varied = all(len({*values}) > 1 for values in both)
        summary["agreement"]["spearman"] = float(spearmanr(*both).statistic) if varied else None
    counts = tuple(np.array([row[name] for row in rows], dtype=float) for name in ("tp", "fp", "fn"))
    pooled = count_scores(*(count.sum() for count in counts))
    summary["pooled"] = {name: value for name, value in pooled.items() if not np.isnan(value)}
    summary["pooled"]["dice_interval"] = bootstrap_interval(counts, _pooled_dice, resamples)
    summary["ece"] = expected_calibration_error(bins)
    summary["calibration"] = bins.tolist()
    lesion_free = [row for row in rows if row["tp"] + row["fn"] == 0]
    summary["lesion_free"] = {"images": len(lesion_free), "left_empty": sum(row["fp"] == 0 for row in lesion_free)}
    summary["missed"] = sum(row["tp"] == 0 and row["fn"] > 0 for row in rows)
    return summary


def _one_class(
    pred: torch.Tensor, label: torch.Tensor, spacing: Any
) -> tuple[torch.Tensor, torch.Tensor, list[float] | None]:
    """Convert two masks and the spacing to the form that MONAI's metrics take: batches of one class."""
    y_pred, y = (convert_to_tensor(mask)[None, None] for mask in (pred, label))
    return y_pred, y, None if spacing is None else [float(size) for size in spacing[: pred.ndim]]


def _pooled_dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    found, total = 2 * tp.sum(axis=axis), (2 * tp + fp + fn).sum(axis=axis)
    return np.where(total > 0, found / np.maximum(total, 1), 1.0)


def bootstrap_interval(values: Sequence, statistic: Any, resamples: int, paired: bool = True) -> list[float] | None:
    """Compute the 95 % bootstrap interval over images, of several groups if not ``paired``; None if it has no width."""
    if any(len(some) < 2 for some in values):
        return None
    result = bootstrap(
        values, statistic, paired=paired and len(values) > 1, vectorized=True, n_resamples=resamples, batch=200,
        method="percentile", random_state=0,
    ).confidence_interval  # fmt: skip
    return [float(result.low), float(result.high)] if result.high > result.low else None
