# SPDX-License-Identifier: Apache-2.0
"""Detection: which images and lesions are found, and what is marked where no lesion is, by the certainty asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.ndimage import label as label_components
from scipy.ndimage import maximum
from scipy.stats import binomtest, rankdata

from .metrics import bootstrap_interval

LOW = 0.5  # a region's pixels have at least this probability
MOST_POINTS = 200  # of a curve


def detect(probability: np.ndarray, marked: np.ndarray, lesion: np.ndarray) -> dict[str, Any]:
    """
    Compare the marked regions of one image with its lesions: connected components; corners connect pixels.

    Args:
        probability: probability of the foreground, 0 to 1, in two or three dimensions.
        marked, lesion: boolean masks of the same shape: what is predicted, and what is true.

    Returns:
        ``highest``, the highest probability of the image. ``lesions``: for each lesion the highest probability of the
        regions that overlap it, 0 if none does. ``regions``: for each region its highest probability, and whether it
        overlaps a lesion.
    """
    corners = np.ones((3,) * marked.ndim)
    (regions, count), (lesions, true) = (label_components(mask, corners) for mask in (marked, lesion))
    each = np.arange(1, count + 1)
    peaks = np.concatenate([[0.0], maximum(probability, regions, each)])
    overlaps = maximum(lesion, regions, each)
    return {
        "highest": float(probability.max()),
        "lesions": [float(peak) for peak in maximum(peaks[regions], lesions, np.arange(1, true + 1))],
        "regions": [[float(peak), bool(hit)] for peak, hit in zip(peaks[1:], overlaps)],
    }


@dataclass(frozen=True)
class Detections:
    """The highest probabilities, float32, of what :py:func:`detect` found in some images."""

    sensitivity: np.ndarray  # of the regions of each image with a lesion; 0 where nothing is marked
    specificity: np.ndarray  # of the regions of each image without a lesion
    found: np.ndarray  # of the regions on each lesion
    false_alarms: np.ndarray  # of each region on no lesion

    @classmethod
    def of(cls, detected: Sequence[Mapping[str, Any]]) -> "Detections":
        """Collect the results of several images."""
        peaks = [(max((peak for peak, _ in one["regions"]), default=0.0), one["lesions"]) for one in detected]
        return cls(
            *(
                np.array([peak for peak, lesions in peaks if bool(lesions) is kind], np.float32)
                for kind in (True, False)
            ),
            np.array([peak for one in detected for peak in one["lesions"]], np.float32),
            np.array([peak for one in detected for peak, hit in one["regions"] if not hit], np.float32),
        )

    def at(self, certainty: float) -> dict[str, float | None]:
        """
        Return what regions that reach ``certainty`` find: the shares of images (``sensitivity``, ``specificity``) and
        of lesions (``found``), None if there are none, and the number of ``false_alarms`` per 100 images.
        """
        reached = {one.name: getattr(self, one.name) >= certainty for one in fields(self)}
        rates = {name: float(hits.mean()) if len(hits) else None for name, hits in reached.items()}
        images = len(self.sensitivity) + len(self.specificity)
        return {
            **rates,
            "specificity": None if rates["specificity"] is None else 1 - rates["specificity"],
            "false_alarms": 100 * float(reached["false_alarms"].sum()) / images,
        }

    def points(self) -> np.ndarray:
        """Return each certainty at which something changes: 0.5, and the middle between neighbouring probabilities."""
        peaks = np.unique(np.concatenate([self.found, self.false_alarms]).astype(float))
        peaks = peaks[peaks >= LOW]
        return np.unique([LOW, *(peaks[1:] + peaks[:-1]) / 2])


def summarise_detections(
    detected: Sequence[Mapping[str, Any]], certainty: float, resamples: int = 2000
) -> dict[str, Any]:
    """
    Summarise the detections of the images of one data set, for one class.

    Args:
        detected: what :py:func:`detect` returned for each image.
        certainty: the operating point: a region counts if its highest probability reaches this.
        resamples: number of bootstrap samples of images. Defaults to 2000.

    Returns:
        A dictionary with ``certainty``, the numbers of images with and without a lesion, of lesions and of false
        alarms. ``auc`` (by the highest probability of each image), ``sensitivity``, ``specificity``, ``found`` and
        ``false_alarms`` have a ``mean`` and a 95 % ``interval``; what is undefined is left out. The intervals of
        sensitivity and specificity are Wilson's, all others come from the bootstrap. ``curve`` has a row for each of at
        most 200 certainties: it, and the four values of :py:meth:`Detections.at`.
    """
    every = Detections.of(detected)
    now = every.at(certainty)
    with_lesion, without = (
        np.array([one["highest"] for one in detected if bool(one["lesions"]) is kind]) for kind in (True, False)
    )
    alarms = [sum(peak >= np.float32(certainty) for peak, hit in one["regions"] if not hit) for one in detected]
    summary: dict[str, Any] = {
        "certainty": certainty,
        "with_lesion": len(with_lesion),
        "without_lesion": len(without),
        "lesions": len(every.found),
        "alarms_with_lesion": int(sum(n for n, one in zip(alarms, detected) if one["lesions"])),
        "alarms_without_lesion": int(sum(n for n, one in zip(alarms, detected) if not one["lesions"])),
    }
    if len(with_lesion) and len(without):
        auc = bootstrap_interval((with_lesion, without), _auc, resamples, paired=False)
        summary["auc"] = {"mean": float(_auc(with_lesion, without)), "interval": auc}
    for name, images in (("sensitivity", len(with_lesion)), ("specificity", len(without))):
        if (rate := now[name]) is not None:
            interval = binomtest(round(rate * images), images).proportion_ci(method="wilson")
            summary[name] = {"mean": rate, "interval": [float(interval.low), float(interval.high)]}
    if len(every.found):
        hits = [sum(peak >= np.float32(certainty) for peak in one["lesions"]) for one in detected if one["lesions"]]
        counts = tuple(np.array(some, float) for some in (hits, [len(o["lesions"]) for o in detected if o["lesions"]]))
        summary["found"] = {"mean": now["found"], "interval": bootstrap_interval(counts, _ratio, resamples)}
    interval = bootstrap_interval((100 * np.array(alarms, float),), np.mean, resamples)
    summary["false_alarms"] = {"mean": now["false_alarms"], "interval": interval}
    points = every.points()
    chosen = points[np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int))]
    summary["curve"] = [[float(point), *every.at(point).values()] for point in chosen]
    return summary


def _auc(with_lesion: np.ndarray, without: np.ndarray, axis: int = -1) -> np.ndarray:
    """Compute the area under the ROC curve by ranks: the share of pairs of images in the right order, ties as half."""
    n, m = with_lesion.shape[axis], without.shape[axis]
    ranks = rankdata(np.concatenate([with_lesion, without], axis), axis=axis)
    return (ranks[..., :n].sum(axis=axis) - n * (n + 1) / 2) / (n * m)


def _ratio(found: np.ndarray, of: np.ndarray, axis: int = -1) -> np.ndarray:
    return found.sum(axis=axis) / of.sum(axis=axis)
