# SPDX-License-Identifier: Apache-2.0
"""Detection: which images and lesions are found, and what is marked where no lesion is, by the certainty asked for."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest, rankdata

from .metrics import bootstrap_interval

LOW = 0.5  # a region's pixels have at least this probability
DETECTED = ("what", "probability", "lesion", "iou")
OVERLAPS = {"10": 0.1, "50": 0.5}  # IoU that a region must exceed to count as found, by the ending of its keys
MOST_POINTS = 200  # of a curve


def detect(
    probability: np.ndarray, marked: np.ndarray, lesion: np.ndarray, certainty: float = LOW
) -> list[tuple[str, float, int, float]]:
    """Compare the marked regions of one image with its lesions: connected components; corners connect pixels.

    Args:
        probability: probability of the foreground, 0 to 1, in two or three dimensions.
        marked, lesion: boolean masks of the same shape: what is predicted, and what is true.
        certainty: only regions whose highest probability reaches this count for the IoU of a lesion. Defaults to 0.5.

    Returns:
        The rows of ``DETECTED``: for the ``"image"`` its highest probability, and 1 if it has a lesion; for each
        ``"lesion"`` the highest probability of the regions that overlap it, 0 if none does, and 1; for each
        ``"region"`` its highest probability, and 1 if it overlaps a lesion. The last value is the largest IoU (area in
        both, divided by area in either) of a lesion with a region, or of a region with a lesion, and 0 for images.
    """
    corners = np.ones((3,) * marked.ndim)
    (regions, count), (lesions, true) = (ndimage.label(mask, corners) for mask in (marked, lesion))
    each = np.arange(1, count + 1)
    peaks = np.concatenate([[0.0], ndimage.maximum(probability, regions, each)])
    region_iou, lesion_iou = _best_overlaps(regions, lesions, peaks >= certainty, true)
    found = [("image", float(probability.max()), int(true > 0), 0.0)]
    highest = ndimage.maximum(peaks[regions], lesions, np.arange(1, true + 1))
    found += [("lesion", float(peak), 1, float(iou)) for peak, iou in zip(highest, lesion_iou[1:])]
    marks = zip(peaks[1:], ndimage.maximum(lesion, regions, each), region_iou[1:])
    return found + [("region", float(peak), int(hit), float(iou)) for peak, hit, iou in marks]


def _best_overlaps(
    regions: np.ndarray, lesions: np.ndarray, certain: np.ndarray, true: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest IoU of each region with a lesion, and of each lesion with a certain region, by number."""
    both = (regions > 0) & (lesions > 0)
    pairs, shared = np.unique(regions[both].astype(np.int64) * (true + 1) + lesions[both], return_counts=True)
    region, one = pairs // (true + 1), pairs % (true + 1)
    sizes = np.bincount(regions.ravel(), minlength=len(certain)), np.bincount(lesions.ravel(), minlength=true + 1)
    iou = shared / (sizes[0][region] + sizes[1][one] - shared)
    best = np.zeros(len(certain)), np.zeros(true + 1)
    np.maximum.at(best[0], region, iou)
    np.maximum.at(best[1], one, iou * certain[region])
    return best


class Detections:
    """What :py:func:`detect` found in each of some images, at any certainty."""

    def __init__(self, detected: Iterable[Iterable[Sequence[Any]]]) -> None:
        rows = [(index, *row) for index, some in enumerate(detected) for row in some]
        index, what, peak, lesion, iou = map(np.array, zip(*rows))
        self.region_iou, self.lesion_iou = iou[what == "region"], iou[what == "lesion"]
        self.highest, self.diseased = peak[what == "image"], lesion[what == "image"] == 1
        # index of the image, and probability: float32 as in the masks, so that both decide alike at equality
        self.regions, self.lesions, self.alarms = (
            (index[kind], peak[kind].astype(np.float32))
            for kind in (what == "region", what == "lesion", (what == "region") & (lesion == 0))
        )

    def counts(self, certainty: float) -> list[np.ndarray]:
        """Count per image the regions, the lesions and the false alarms that reach ``certainty``."""
        kinds = (self.regions, self.lesions, self.alarms)
        return [np.bincount(index[peak >= certainty], minlength=len(self.highest)) for index, peak in kinds]

    def rates(self, certainty: float) -> dict[str, float]:
        """Return the shares of diseased images that are marked (``sensitivity``), of other images that are not
        (``specificity``) and of lesions ``found``, nan where there are none, and the ``false_alarms`` per 100 images.
        """
        regions, _, alarms = self.counts(certainty)
        parts = regions[self.diseased] > 0, regions[~self.diseased] == 0, self.lesions[1] >= certainty
        rates = [float(part.mean()) if part.size else math.nan for part in parts]
        return dict(zip(("sensitivity", "specificity", "found", "false_alarms"), [*rates, 100 * float(alarms.mean())]))

    def points(self) -> np.ndarray:
        """Return each certainty at which something changes: 0.5, and the middle between neighbouring probabilities."""
        peaks = np.unique(self.regions[1].astype(float))
        peaks = peaks[peaks >= LOW]
        return np.unique([LOW, *(peaks[1:] + peaks[:-1]) / 2])

    def summary(self, certainty: float, resamples: int = 2000) -> dict[str, Any]:
        """Summarise the images at the operating point ``certainty``.

        Returns:
            A dictionary with the numbers of images and of false alarms with and without a lesion. ``auc`` (by the
            highest probability of each image), the :py:meth:`rates`, and for the IoU of 0.1 and 0.5 the share of
            lesions ``found_iou10`` and the ``false_positives_iou10`` per image, have a ``mean`` and a 95 % ``interval``
            over images: Wilson's for shares of images, else the bootstrap's. Undefined ones are left out. ``point`` is
            ``certainty`` and its rates, None for undefined ones, and ``curve`` has at most 200 such rows.
        """
        regions, found, alarms = self.counts(certainty)
        kinds = {"with": self.diseased, "without": ~self.diseased}
        summary: dict[str, Any] = {f"images_{name}": int(kind.sum()) for name, kind in kinds.items()}
        summary |= {f"alarms_{name}": int(alarms[kind].sum()) for name, kind in kinds.items()}
        for ending, least in OVERLAPS.items():
            summary |= self._by_overlap(ending, least, certainty, resamples)
        samples = self.highest[self.diseased], self.highest[~self.diseased]
        counts = found[self.diseased], np.bincount(self.lesions[0])[np.flatnonzero(self.diseased)]
        intervals = {
            "auc": bootstrap_interval(samples, _auc, resamples, paired=False),
            "sensitivity": _wilson(regions[self.diseased] > 0),
            "specificity": _wilson(regions[~self.diseased] == 0),
            "found": bootstrap_interval(counts, _ratio, resamples),
            "false_alarms": bootstrap_interval((100 * alarms,), np.mean, resamples),
        }
        rates = {"auc": float(_auc(*samples)) if all(map(len, samples)) else math.nan, **self.rates(certainty)}
        summary |= {key: {"mean": rate, "interval": intervals[key]} for key, rate in rates.items() if rate == rate}
        points = self.points()
        chosen = np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int))
        rows = [[float(point), *self.rates(point).values()] for point in (*points[chosen], certainty)]
        *summary["curve"], summary["point"] = [[None if value != value else value for value in row] for row in rows]
        return summary

    def _by_overlap(self, ending: str, least: float, certainty: float, resamples: int) -> dict[str, Any]:
        """Return the share of lesions that a region overlaps by more than an IoU, and the false positives per image."""
        count = len(self.highest)
        found = np.bincount(self.lesions[0][self.lesion_iou > least], minlength=count)[self.diseased]
        lesions = np.bincount(self.lesions[0], minlength=count)[self.diseased]
        wrong = (self.regions[1] >= certainty) & (self.region_iou <= least)
        positives = np.bincount(self.regions[0][wrong], minlength=count)
        both: dict[str, Any] = {"false_positives": ((positives,), np.mean)}
        both |= {"found": ((found, lesions), _ratio)} if lesions.sum() else {}
        return {
            f"{key}_iou{ending}": {"mean": float(mean(*of)), "interval": bootstrap_interval(of, mean, resamples)}
            for key, (of, mean) in both.items()
        }


def _auc(diseased: np.ndarray, healthy: np.ndarray, axis: int = -1) -> np.ndarray:
    """Compute the area under the ROC curve by ranks: the share of pairs of images in the right order, ties as half."""
    n, m = diseased.shape[axis], healthy.shape[axis]
    ranks = rankdata(np.concatenate([diseased, healthy], axis), axis=axis)
    return (ranks[..., :n].sum(axis=axis) - n * (n + 1) / 2) / (n * m)


def _wilson(hits: np.ndarray) -> list[float] | None:
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson") if len(hits) else None
    return interval and [float(interval.low), float(interval.high)]


def _ratio(found: np.ndarray, of: np.ndarray, axis: int = -1) -> np.ndarray:
    return found.sum(axis=axis) / of.sum(axis=axis)
