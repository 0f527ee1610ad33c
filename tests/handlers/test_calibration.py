# SPDX-License-Identifier: Apache-2.0
"""Detections, and ``unetv2 calibrate``: temperature and certainty, in weights that carry them into whatever runs."""

import json
import shutil

import numpy as np
import pytest
import torch
from common.exports import describe
from common.options import with_carried
from common.packing import copy_bundle, save_weights
from monai.metrics import compute_roc_auc
from PIL import Image

from unetv2_monai.core.hysteresis import hysteresis
from unetv2_monai.detection import Detections, detect
from unetv2_monai.handlers.calibration import choose_certainty, fit_temperature
from unetv2_monai.networks import options_of, read_weights, with_options

from ..conftest import ROOT, draw_pairs, read_table
from ..support.workflow import EVALUATE, INFERENCE, overlays, refusal, run

# two images with three lesions, of which one is never found, and two images without
FOUR = [
    [("image", 0.95, 1, 0), ("lesion", 0.95, 1, 0.6), ("lesion", 0.0, 1, 0), ("region", 0.95, 1, 0.6)],
    [("image", 0.75, 1, 0), ("lesion", 0.7, 1, 0.3), ("region", 0.7, 1, 0.3), ("region", 0.75, 0, 0)],
    [("image", 0.8, 0, 0), ("region", 0.6, 0, 0), ("region", 0.8, 0, 0)],
    [("image", 0.3, 0, 0)],
]


def test_regions_and_lesions_of_one_image():
    """Pixels that touch at a corner belong together, and a region may lie on two lesions."""
    probability = np.array([[6, 0, 9, 9, 9, 0, 0], [0, 8, 0, 0, 0, 0, 0], [0, 0, 0, 0, 7, 0, 4]]) / 10
    lesion = np.array([[1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 1]], bool)
    assert detect(probability, probability >= 0.5, lesion) == [
        ("image", 0.9, 1, 0), ("lesion", 0.9, 1, 1 / 5), ("lesion", 0.9, 1, 1 / 6), ("lesion", 0.0, 1, 0),
        ("lesion", 0.0, 1, 0), ("region", 0.9, 1, 1 / 5), ("region", 0.7, 0, 0),
    ]  # fmt: skip
    assert [row[3] for row in detect(probability, probability >= 0.5, lesion, 0.95)][1:3] == [0, 0]
    cube = np.zeros((2, 2, 2))
    assert detect(cube + 0.2, cube > 0, cube > 0) == [("image", 0.2, 0, 0)]
    cube[0, 0, 0] = cube[1, 1, 1] = 1
    assert detect(cube, cube > 0, cube < 0) == [("image", 1.0, 0, 0), ("region", 1.0, 0, 0)]


def test_summary_of_four_images():
    summary = json.loads(json.dumps(Detections(FOUR).summary(0.7), allow_nan=False))
    assert summary["curve"] == [  # sensitivity, specificity, lesions found, false alarms per 100 images
        pytest.approx([0.5, 1, 0.5, 2 / 3, 75]), pytest.approx([0.65, 1, 0.5, 2 / 3, 50]),
        pytest.approx([0.725, 1, 0.5, 1 / 3, 50]), pytest.approx([0.775, 0.5, 0.5, 1 / 3, 25]),
        pytest.approx([0.875, 0.5, 1, 1 / 3, 0]),
    ]  # fmt: skip
    assert summary["point"] == pytest.approx([0.7, 1, 0.5, 2 / 3, 50])
    assert [summary[f"{what}_{kind}"] for what in ("images", "alarms") for kind in ("with", "without")] == [2, 2, 1, 1]
    assert summary["auc"]["mean"] == 3 / 4  # 0.95 is above 0.8 and 0.3, 0.75 above 0.3 alone
    assert summary["sensitivity"]["interval"] == pytest.approx([2 / (2 + 1.96**2), 1], abs=1e-4)  # Wilson's for 2 of 2
    assert summary["false_alarms"] == {"mean": 50, "interval": [0, 100]}  # quantiles of 4 draws with 1/2
    overlaps = [summary[f"{what}_iou{ending}"]["mean"] for what in ("found", "false_positives") for ending in (10, 50)]
    assert overlaps == pytest.approx([2 / 3, 1 / 3, 2 / 4, 3 / 4])
    with_lesion, without = Detections(FOUR[:2]).summary(0.5), Detections(FOUR[3:]).summary(0.5)
    assert not {"auc", "specificity"} & with_lesion.keys() | {"auc", "sensitivity", "found"} & without.keys()
    assert without["curve"] == [[0.5, None, 1.0, None, 0.0]]


def test_area_under_the_curve():
    """It is MONAI's, with ties; its interval is nearly that of Hanley and McNeil. A curve has 200 points at most."""
    rng = np.random.default_rng(0)
    truth = rng.random(1000) < 0.6
    score = np.clip(rng.normal(0.5 + 0.2 * truth, 0.2), 0, 1).round(3)
    images = [
        [("image", p, int(y), 0), *[("lesion", p, 1, 1)] * int(y), ("region", p, y, y)] for p, y in zip(score, truth)
    ]
    found = Detections(images).summary(0.5)
    auc = compute_roc_auc(torch.from_numpy(score), torch.from_numpy(truth).int())
    n, m = truth.sum(), (~truth).sum()
    variance = auc * (1 - auc) + (n - 1) * (auc / (2 - auc) - auc**2) + (m - 1) * (2 * auc**2 / (1 + auc) - auc**2)
    error = 1.96 * (variance / (n * m)) ** 0.5
    assert found["auc"]["mean"] == pytest.approx(auc)
    assert found["auc"]["interval"] == pytest.approx([auc - error, auc + error], abs=0.01)
    assert len(found["curve"]) == 200


@pytest.mark.parametrize("channels", [1, 3])
def test_temperature_of_logits_times_three(channels):
    """Classes are drawn by the true logits."""
    logits = 2 * torch.randn(channels, 200_000, generator=torch.Generator().manual_seed(0))
    share = torch.cat([logits, torch.zeros(1, 200_000)]).softmax(0) if channels == 1 else logits.softmax(0)
    drawn = torch.multinomial(share.T, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    label = torch.nn.functional.one_hot(drawn).T[:channels if channels > 1 else 1].float()  # fmt: skip
    assert fit_temperature(3 * logits, label) == pytest.approx(3, rel=0.02)
    assert fit_temperature(logits, label) == pytest.approx(1, rel=0.02)
    assert "no temperature fits" in refusal(fit_temperature, 3 * label - 1, label)


def test_certainty_of_four_images():
    found = Detections(FOUR)
    for limit, certainty in ((75, 0.5), (50, 0.65), (24, 0.875)):
        assert choose_certainty(found, false_alarms=limit) == pytest.approx(certainty)
    assert [choose_certainty(found, missed=limit) for limit in (34, 70)] == pytest.approx([0.65, 0.875])
    message = refusal(choose_certainty, found, missed=33)
    assert "no certainty has at most 33 % of lesions missed on these images; the best is 33.3, at" in message
    alarm = [[("image", 0.9, 1, 0), ("lesion", 0.6, 1, 1), ("region", 0.6, 1, 1), ("region", 0.9, 0, 0)]]
    assert "the best is 100.0, at certainty 0.5" in refusal(choose_certainty, Detections(alarm), false_alarms=5)
    assert "since no lesion is found" in refusal(choose_certainty, Detections(FOUR[2:]), false_alarms=5)


def calibrate(folder, **options) -> None:
    options = {"eval_section": "test", "checkpoint": folder / "model.pt", "num_workers": 0, **options}
    files = [*EVALUATE, *overlays("options/calibrate")]
    run(files, "evaluating", dataset_dir=folder / "data", output_dir=folder, **options)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """One folder for the shipped weights, and one for the same with three times their logits."""
    folders = [tmp_path_factory.mktemp(f"times_{factor}") for factor in (1, 3)]
    for factor, folder in zip((1, 3), folders):
        draw_pairs(folder / "data", 6, width=64, height=64)
        weights = read_weights(ROOT / "bundle" / "models" / "model.pt")
        for key in (key for key in weights if key.startswith("heads.")):
            weights[key] *= factor
        options = {key: value for key, value in options_of(weights).items() if key not in ("calibrated", "certainty")}
        torch.save(with_options(weights, {**options, "image_size": [64, 64]}), folder / "model.pt")
        calibrate(folder, missed=70)
    return folders


def test_three_times_the_logits_have_three_times_the_temperature(calibrated):
    """And after it the same weights, certainty and scores."""
    one, three = (read_weights(folder / "models" / "model_calibrated.pt") for folder in calibrated)
    temperature = options_of(one)["calibrated"]["temperature"]
    assert 0.1 < temperature < 4
    done = {"temperature": pytest.approx(3 * temperature, rel=1e-3), "images": 6, "missed": 70}
    assert options_of(three)["calibrated"] == done
    assert options_of(three)["certainty"] == pytest.approx(options_of(one)["certainty"], rel=1e-3)
    before = read_weights(calibrated[1] / "model.pt")
    for key, value in before.items():
        divisor = 3 * temperature if key.startswith("heads.") else 1
        torch.testing.assert_close(three[key] * divisor, value, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(three[key], one[key], rtol=1e-3, atol=1e-5)
    assert three._metadata.keys() == before._metadata.keys()


def test_the_certainty_is_carried_into_inference_and_evaluation(calibrated, tmp_path):
    """It lies below the fifth lesion from below, as 4 of 6 may be missed."""
    weights, data = calibrated[1] / "models" / "model_calibrated.pt", calibrated[1] / "data"
    certainty = options_of(read_weights(weights))["certainty"]
    rows = read_table(calibrated[1] / "calibration" / "detections.csv")
    peaks = sorted(float(row["probability"]) for row in rows if row["what"] == "lesion")
    assert peaks[3] < certainty < peaks[4]
    pixels = []
    for folder, options in ((tmp_path, {}), (tmp_path / "all", {"certainty": 0.51})):
        options |= {"checkpoint": weights, "num_workers": 0, "output_dir": folder}
        run(INFERENCE, "inference", dataset_dir=data, save_probabilities=True, **options)
        run(EVALUATE, "evaluating", dataset_dir=data, **options)
        masks = {path.name: np.asarray(Image.open(path)) > 0 for path in folder.glob("*.png")}
        for name, mask in masks.items():
            probability = np.asarray(Image.open(folder / "probabilities" / name)) / 65535
            expected = hysteresis(probability, 0.5, options.get("certainty", certainty))
            differ = mask != expected
            assert np.abs(probability[differ] - 0.5).max(initial=0) < 2e-5  # rounded to 16 bits
        pixels.append(sum(mask.sum() for mask in masks.values()))
        scores = read_table(folder / "evaluation" / "scores.csv")
        assert sum(int(row["tp"]) + int(row["fp"]) for row in scores) == pixels[-1]
    assert 0 < pixels[0] < pixels[1]


def test_the_certainty_is_carried_into_exports_and_packages(calibrated, tmp_path):
    weights = calibrated[1] / "models" / "model_calibrated.pt"
    carried = options_of(read_weights(weights))
    assert describe(with_carried({}, weights)).certainty == carried["certainty"]
    for given in ({}, {"certainty": 0.9}):
        folder, expected = tmp_path / f"with{len(given)}", {**carried, **given}
        copy_bundle(folder, with_carried(given, weights))
        save_weights(weights, folder / "configs", folder / "models" / "model.pt")
        assert describe({}, configs=folder / "configs").certainty == expected["certainty"]
        assert options_of(read_weights(folder / "models" / "model.pt")) == expected


def test_what_cannot_be_done_is_refused_before_it_begins(calibrated, tmp_path):
    folder = shutil.copytree(calibrated[1], tmp_path / "own", ignore=shutil.ignore_patterns("calibration"))
    message = "model_calibrated.pt exists. Name another --calibrated_checkpoint, or set --overwrite true."
    assert message in refusal(calibrate, folder)
    assert "model.pt exists." in refusal(calibrate, folder, calibrated_checkpoint="@checkpoint")
    message = refusal(calibrate, folder, missed=2, false_alarms=5, overwrite=True)
    assert "set only one of --false_alarms and --missed" in message
    torch.save({"gain": torch.tensor(20.0)}, folder / "model.pt")
    bright = {"_target_": "tests.support.networks.Bright"}
    assert "the network is Bright." in refusal(calibrate, folder, network_def=bright, overwrite=True)
    assert not (folder / "calibration").exists()
