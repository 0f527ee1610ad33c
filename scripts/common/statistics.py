# SPDX-License-Identifier: Apache-2.0
"""Whether one network scores better than another: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Difference", "paired_difference"]


@dataclass(frozen=True)
class Difference:
    """A mean difference and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_difference(
    scores: np.ndarray, reference: np.ndarray, resamples: int = 5000, random_state: int = 0
) -> Difference:
    """
    Mean difference of two networks' scores, with a percentile-bootstrap interval over seeds and images.

    A resample draws seeds and images with replacement. Both networks get the same draw, so that an image which is hard
    for both, or a seed with a poor split for both, cancels out. All seeds of a draw get the same images, since every
    seed was tested on the same ones: an image stays hard or easy in all seeds. Of a single seed, the interval is over
    images alone; of two or three, it is a coarse estimate.

    Args:
        scores: of one network, of shape (seeds, images).
        reference: of the other network, same seeds and images in the same order.
        resamples: number of bootstrap samples. Defaults to 5000.
        random_state: of the draws. Defaults to 0.

    Returns:
        The mean of ``scores - reference`` and its interval.
    """
    difference = np.asarray(scores, dtype=float) - np.asarray(reference, dtype=float)
    seeds, images = difference.shape
    rng = np.random.default_rng(random_state)
    # how often each seed and each image is drawn
    seed_counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    image_counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    means = np.einsum("ri,ri->r", seed_counts @ difference, image_counts) / difference.size
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(difference.mean()), float(low), float(high))
