# SPDX-License-Identifier: Apache-2.0
"""Scores against values computed by hand."""

import json
import math

import numpy as np
import pytest
import torch

from unetv2_monai import metrics
from unetv2_monai.handlers.score_table import table
from unetv2_monai.metrics import calibration_bins, count_scores, hausdorff_95, summarise, surface_dice


def test_scores_of_counts():
    # 6 of 8 marked pixels are right, 6 of 12 lesion pixels are found
    assert count_scores(6, 2, 6) == pytest.approx({"dice": 0.6, "iou": 6 / 14, "precision": 0.75, "recall": 0.5})
    nothing = {"dice": 1, "iou": 1, "precision": math.nan, "recall": math.nan}
    assert count_scores(0, 0, 0) == pytest.approx(nothing, nan_ok=True)
    assert count_scores(0, 5, 0)["dice"] == 0.0


def test_calibration_error_by_hand():
    probability = torch.tensor([0.02, 0.04, 0.96, 0.98, 0.72, 0.74, 1.0])
    label = torch.tensor([0, 0, 1, 1, 1, 0, 1])
    bins = calibration_bins(probability, label)
    assert bins.shape == (20, 3)
    assert bins[0].tolist() == pytest.approx([2, 0.06, 0])
    assert bins[14].tolist() == pytest.approx([2, 1.46, 1])
    assert bins[19].tolist() == pytest.approx([3, 2.94, 3])  # 1.0 belongs to the last bin
    expected = (2 * abs(0.03 - 0) + 2 * abs(0.73 - 0.5) + 3 * abs(0.98 - 1)) / 7
    assert metrics.expected_calibration_error(bins) == pytest.approx(expected)
    coin, wrong = (torch.full((10,), 0.5), torch.tensor([0, 1] * 5)), (torch.ones(10), torch.zeros(10))
    for pair, error in ((coin, 0), (wrong, 1)):  # a perfectly calibrated and a perfectly wrong map
        assert metrics.expected_calibration_error(calibration_bins(*pair)) == pytest.approx(error)


def rows_of(counts):
    rows = []
    for tp, fp, fn in counts:
        row = {"tp": tp, "fp": fp, "fn": fn, "tn": 100 - tp - fp - fn, **count_scores(tp, fp, fn)}
        rows.append({**row, "mae": (fp + fn) / 100, "hd95": float(tp) if tp else float("nan")})
    return rows


def test_pooled_scores_differ_from_means_over_images():
    counts = [(90, 0, 0), (0, 0, 1), (0, 0, 0), (0, 4, 0)]  # all of a large lesion, a missed small one, two without
    summary = summarise(rows_of(counts), np.zeros((20, 3)))
    assert summary["images"] == 4
    assert summary["dice"]["mean"] == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert summary["pooled"]["dice"] == pytest.approx(180 / 185)
    assert summary["pooled"]["iou"] == pytest.approx(90 / 95)
    assert summary["mae"]["mean"] == pytest.approx((0 + 0.01 + 0 + 0.04) / 4)
    assert summary["hd95"] == {"mean": 90.0, "median": 90.0, "interval": None, "images": 1}
    assert summary["recall"]["images"] == 2
    assert summary["lesion_free"] == {"images": 2, "left_empty": 1}
    assert summary["missed"] == 1
    assert "1 of 2" in table({"set": summary})


def test_a_summary_without_any_lesion_is_json():
    summary = summarise(rows_of([(0, 0, 0)] * 2), np.zeros((15, 3)))
    assert json.loads(json.dumps(summary, allow_nan=False))["pooled"]["dice"] == 1
    assert "precision" not in summary["pooled"]


def test_interval_is_that_of_the_mean():
    """95 % of the mean of 400 values is mean +- 1.96 standard errors, from theory; the bootstrap must find it."""
    rng = np.random.default_rng(0)
    rows = [{**row, "dice": value} for row, value in zip(rows_of([(5, 1, 1)] * 400), rng.uniform(0.6, 1.0, 400))]
    summary = summarise(rows, np.zeros((20, 3)))["dice"]
    values = np.array([row["dice"] for row in rows])
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert summary["interval"] == pytest.approx([values.mean() - error, values.mean() + error], abs=1.5e-3)
    assert summarise(rows, np.zeros((20, 3)))["dice"] == summary  # the same numbers every time


def test_hausdorff_distance_in_pixels():
    """A square of 10 pixels moved by 7 to the right: no distance between the outlines exceeds 7, and 5 % are 7."""
    first, second = torch.zeros(2, 40, 60, dtype=torch.bool)
    first[10:20, 10:20] = True
    second[10:20, 17:27] = True
    assert hausdorff_95(first, second, None) == pytest.approx(7.0)
    assert hausdorff_95(first, second, torch.tensor([1.0, 0.5])) == pytest.approx(3.5)
    assert math.isnan(hausdorff_95(first, torch.zeros_like(first), None))


def test_surface_dice_in_mm():
    """Two cubes of 5 x 5 x 5 voxels, one moved by two voxels along the last dimension. The outline of each has 98
    voxels: a rim of 16 in each of its five slices and 9 more inside of each end.
    """
    first, second = torch.zeros(2, 9, 9, 12, dtype=torch.bool)
    first[2:7, 2:7, 2:7] = True
    second[2:7, 2:7, 4:9] = True
    on_it = 3 * 16  # rims of the three slices that both have
    next_to_it = 8  # the end inside the other cube, but for its middle: one voxel from the other's side
    one_slice_off = 16  # rim of the slice beside the other's end
    for tolerance, share in ((0, on_it), (1, on_it + next_to_it + one_slice_off), (2, 98)):
        assert surface_dice(first, second, tolerance, None) == pytest.approx(share / 98)
    spacing = torch.tensor([1.0, 1.0, 3.0])  # mm: the next slice is out of reach of 1.5 mm
    assert surface_dice(first, second, 1.5, spacing) == pytest.approx((on_it + next_to_it) / 98)
    # 1.8 mm are three voxels of 0.6 mm, which a file has as 0.60000002
    apart = torch.roll(first, 3, dims=2)
    assert surface_dice(first, apart, 1.8, torch.tensor([1.0, 1.0, 0.6])) == 1.0
    empty = torch.zeros_like(first)
    assert [surface_dice(*pair, 1.0, None) for pair in ((first, first), (first, empty), (empty, first))] == [1, 0, 0]
    assert math.isnan(surface_dice(empty, empty, 1.0, None))
