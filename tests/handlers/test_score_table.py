# SPDX-License-Identifier: Apache-2.0
"""Scores against values computed by hand."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import UNetV2
from unetv2_monai.handlers.score_table import table
from unetv2_monai.metrics import calibration_bins, count_scores, expected_calibration_error, summarise
from unetv2_monai.released import released_scores

from ..conftest import draw_pair
from ..support.workflow import CONFIGS, EVALUATE, run


def test_scores_of_counts():
    # 6 of 8 marked pixels are right, 6 of 12 lesion pixels are found
    assert count_scores(6, 2, 6) == pytest.approx({"dice": 0.6, "iou": 6 / 14, "precision": 0.75, "recall": 0.5})
    nothing = count_scores(0, 0, 0)
    assert (nothing["dice"], nothing["iou"]) == (1.0, 1.0)
    assert math.isnan(nothing["precision"])
    assert math.isnan(nothing["recall"])
    assert count_scores(0, 5, 0)["dice"] == 0.0


def test_released_scoring_stretches_each_image():
    """Sigmoids of 0.12, 0.18, 0.27, 0.5, of which ours marks nothing, become 0, 0.16, 0.39, 1."""
    logits = torch.tensor([[[-2.0, -1.5], [-1.0, 0.0]]])
    label = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    scores = released_scores(logits, label)
    assert scores["released_dice"] == pytest.approx(2 * 1 / (1 + 2), abs=1e-4)
    assert scores["released_iou"] == pytest.approx(1 / 2, abs=1e-4)
    # on an image without a lesion it cannot score: something is always marked
    assert released_scores(logits, torch.zeros(1, 2, 2))["released_dice"] == pytest.approx(0, abs=1e-4)


def test_calibration_error_by_hand():
    probability = torch.tensor([0.02, 0.04, 0.96, 0.98, 0.72, 0.74, 1.0])
    label = torch.tensor([0, 0, 1, 1, 1, 0, 1])
    bins = calibration_bins(probability, label)
    assert bins.shape == (20, 3)
    assert bins[0].tolist() == pytest.approx([2, 0.06, 0])
    assert bins[14].tolist() == pytest.approx([2, 1.46, 1])
    assert bins[19].tolist() == pytest.approx([3, 2.94, 3])  # 1.0 belongs to the last bin
    expected = (2 * abs(0.03 - 0) + 2 * abs(0.73 - 0.5) + 3 * abs(0.98 - 1)) / 7
    assert expected_calibration_error(bins) == pytest.approx(expected)
    # a perfectly calibrated and a perfectly wrong map
    half = calibration_bins(torch.full((10,), 0.5), torch.tensor([0, 1] * 5))
    assert expected_calibration_error(half) == pytest.approx(0)
    wrong = calibration_bins(torch.ones(10), torch.zeros(10))
    assert expected_calibration_error(wrong) == pytest.approx(1)


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


def test_interval_is_that_of_the_mean():
    """95 % of the mean of 400 values is mean +- 1.96 standard errors, from theory; the bootstrap must find it."""
    rng = np.random.default_rng(0)
    rows = [{**row, "dice": value} for row, value in zip(rows_of([(5, 1, 1)] * 400), rng.uniform(0.6, 1.0, 400))]
    summary = summarise(rows, np.zeros((20, 3)))["dice"]
    values = np.array([row["dice"] for row in rows])
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert summary["interval"] == pytest.approx([values.mean() - error, values.mean() + error], abs=1.5e-3)
    again = summarise(rows, np.zeros((20, 3)))["dice"]
    assert again == summary  # the same numbers every time


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two data sets below test/, scored by an untrained network."""
    folder = tmp_path_factory.mktemp("scores")
    for name, size in (("a", (60, 44)), ("b", (48, 80))):
        for index in range(2):
            draw_pair(folder / "data" / "test" / name, f"{name}{index}", *size, seed=index)
    torch.manual_seed(0)
    network = UNetV2(backbone="pvt_v2_b0", channels=8)
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=2.0)
    torch.save(network.state_dict(), folder / "model.pt")
    run(
        EVALUATE, "evaluating", dataset_dir=str(folder / "data"), output_dir=str(folder), num_workers=0,
        checkpoint=str(folder / "model.pt"), image_size=64, **{"network_def#channels": 8},
    )  # fmt: skip
    with (folder / "evaluation" / "scores.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    return folder, network, rows


def test_one_summary_per_data_set(evaluated):
    folder, _, rows = evaluated
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert list(summary) == ["a", "b"]
    for name, one in summary.items():
        assert one["images"] == 2
        mean = np.mean([float(row["dice"]) for row in rows if row["dataset"] == name])
        assert one["dice"]["mean"] == pytest.approx(mean)
        assert sum(count for count, _, _ in one["calibration"]) == 2 * (44 * 60 if name == "a" else 80 * 48)


def test_released_scores_sum_two_heads(evaluated):
    """Against both heads of the network in training form, computed here."""
    _, network, rows = evaluated
    network = network.eval()
    for row in rows:
        image = torch.from_numpy(np.asarray(Image.open(row["image"])).copy()).permute(2, 0, 1).float()
        image = torch.nn.functional.interpolate(image[None], (64, 64), mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
        with torch.no_grad():
            skips = [reduce(gate(x)) for reduce, gate, x in zip(
                network.reduce, network.gates, network.encoder((image - mean) / std)
            )]  # fmt: skip
            decoded = network.decoder(network.sdi(skips))
            fine, coarse = (network.upsample(network.heads[i](decoded[i])) for i in (0, 1))
        assert coarse.shape[2:] == (32, 32)
        logits = fine + torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear", align_corners=False)
        mask = np.asarray(Image.open(row["image"].replace("images", "masks"))) > 127
        expected = released_scores(logits[0], torch.from_numpy(mask)[None].float())
        assert float(row["released_dice"]) == pytest.approx(expected["released_dice"], abs=2e-3)
        assert float(row["released_dice"]) != pytest.approx(float(row["dice"]), abs=1e-3)


def scored(evaluated, tmp_path, *overlays, **options):
    folder, _, rows = evaluated
    files = [EVALUATE[0], *(str(CONFIGS / "options" / f"{name}.yaml") for name in overlays), EVALUATE[1]]
    run(
        files, "evaluating", dataset_dir=str(folder / "data"), output_dir=str(tmp_path), num_workers=0,
        checkpoint=str(folder / "model.pt"), **{"image_size": 64, "network_def#channels": 8, **options},
    )  # fmt: skip
    with (tmp_path / "evaluation" / "scores.csv").open(newline="") as opened:
        return rows, list(csv.DictReader(opened))


def test_reduced_precision(evaluated, tmp_path):
    """Outputs in half, weights in single precision, as mixed precision leaves them."""
    inferer = "$lambda inputs, network: torch.autocast('cpu', torch.bfloat16)(network.__call__)(inputs.as_tensor())"
    full, half = scored(evaluated, tmp_path, **{"validate#inferer": inferer})
    for name in ("dice", "released_dice"):
        assert [float(row[name]) for row in half] == pytest.approx([float(row[name]) for row in full], abs=0.05)
    assert [row["mae"] for row in half] != [row["mae"] for row in full]


@pytest.mark.parametrize("overlay", ["tta", "sliding"])
def test_several_passes_an_image_are_not_scored_as_released(overlay, evaluated, tmp_path):
    """Their sum with the second head of the last pass alone would mean nothing."""
    _, rows = scored(evaluated, tmp_path, overlay, image_size=32)
    assert len(rows) == 4
    assert not [name for name in rows[0] if name.startswith("released")]
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert "released_dice" not in summary["a"]
    assert table(summary).splitlines()[-1].split() == ["IoU", "as", "released", "-", "-"]


def test_hausdorff_distance_in_pixels(tmp_path):
    """A square of 10 pixels moved by 7 to the right: no distance between the outlines exceeds 7, and 5 % are 7."""
    from unetv2_monai.metrics import hausdorff_95 as _hd95

    first, second = torch.zeros(2, 40, 60, dtype=torch.bool)
    first[10:20, 10:20] = True
    second[10:20, 17:27] = True
    assert _hd95(first, second, None) == pytest.approx(7.0)
    assert _hd95(first, second, torch.tensor([1.0, 0.5])) == pytest.approx(3.5)
    assert math.isnan(_hd95(first, torch.zeros_like(first), None))
