# SPDX-License-Identifier: Apache-2.0
"""``certainty`` through inference and evaluation, with a network whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ..data.folders import write_image
from ..support.workflow import EVALUATE, INFERENCE, read_scores, run

BRIGHT = {"_target_": "tests.support.networks.Bright"}


@pytest.mark.parametrize(("options", "squares"), [({}, 2), ({"certainty": 0.8}, 2), ({"certainty": 0.95}, 1)])
def test_inference_and_evaluation(options, squares, tmp_path):
    """One image with two bright squares, of probabilities 1.0 and 0.88; only the first is a lesion."""
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    image[8:24, 8:24], image[40:56, 40:56] = 255, 140
    mask[8:24, 8:24] = 255
    write_image(tmp_path / "data" / "images" / "one.png", image)
    write_image(tmp_path / "data" / "masks" / "one.png", mask)
    common = {"dataset_dir": tmp_path / "data", "image_size": 64, "network_def": BRIGHT, **options}
    run(INFERENCE, "inference", output_dir=tmp_path / "masks", handlers=[], **common)
    assert (np.asarray(Image.open(tmp_path / "masks" / "one.png")) > 0).sum() == squares * 256
    torch.save({"gain": torch.tensor(20.0)}, tmp_path / "model.pt")
    run(EVALUATE, "evaluating", output_dir=tmp_path, checkpoint=tmp_path / "model.pt", **common)
    (dice,), (mae,) = (read_scores(tmp_path / "evaluation", name).values() for name in ("dice", "mae"))
    assert dice == pytest.approx(2 * 256 / (256 + squares * 256))
    assert mae > 0.05  # of the probabilities, which the threshold does not change
