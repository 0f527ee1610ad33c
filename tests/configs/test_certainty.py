# SPDX-License-Identifier: Apache-2.0
"""``certainty`` through inference and evaluation, with a network whose probabilities are known."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from ..support.workflow import EVALUATE, INFERENCE, run

BRIGHT = {"_target_": "tests.support.networks.Bright"}
SURE, UNSURE = 255, 140  # probabilities of 1.0 and 0.88


@pytest.fixture
def folder(tmp_path):
    """One image with a sure and an unsure bright square; only the sure one is a lesion."""
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    image[8:24, 8:24], image[40:56, 40:56] = SURE, UNSURE
    mask[8:24, 8:24] = 255
    for name, array in (("images", image), ("masks", mask)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "data" / name / "one.png")
    return tmp_path


@pytest.mark.parametrize(("options", "squares"), [({}, 2), ({"certainty": 0.8}, 2), ({"certainty": 0.95}, 1)])
def test_inference_and_evaluation(options, squares, folder):
    common = {"dataset_dir": str(folder / "data"), "image_size": 64, "network_def": BRIGHT, **options}
    run(INFERENCE, "inference", output_dir=str(folder / "masks"), handlers=[], **common)
    with Image.open(folder / "masks" / "one.png") as opened:
        assert (np.asarray(opened) > 0).sum() == squares * 256
    (folder / "out" / "models").mkdir(parents=True)
    torch.save({"gain": torch.tensor(20.0)}, folder / "out" / "models" / "model.pt")
    run(EVALUATE, "evaluating", output_dir=str(folder / "out"), **common)
    with (folder / "out" / "evaluation" / "scores.csv").open(newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert float(row["dice"]) == pytest.approx(2 * 256 / (256 + squares * 256))
    assert float(row["mae"]) > 0.05  # of the probabilities, which the threshold does not change
