# SPDX-License-Identifier: Apache-2.0
"""An ensemble is the mean of its members' probabilities, in inference and in evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import UNetV2
from unetv2_monai.networks import with_options

from ..conftest import draw_pairs
from ..support.workflow import EVALUATE, INFERENCE, TINY, overlays, read_scores, refusal, run, workflow

SMALL = {"image_size": [32, 32], "num_workers": 0, "network_def#channels": 8}


@pytest.fixture
def members(tmp_path):
    """Two networks of random weights, which disagree."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = UNetV2(2, 3, 1, backbone="tf_efficientnet_lite0", channels=8)
        torch.save(with_options(network.state_dict(), {"image_size": [32, 32]}), tmp_path / f"{seed}.pt")
    draw_pairs(tmp_path / "data", 2)
    return [str(tmp_path / "0.pt"), str(tmp_path / "1.pt")]


def probabilities(tmp_path, name, files, **options):
    data = tmp_path / "data" / "images"
    options = {"dataset_dir": data, "output_dir": tmp_path / name, "save_probabilities": True, **SMALL, **options}
    run(files, "inference", **options)
    return np.asarray(Image.open(tmp_path / name / "probabilities" / "case_0.png")).astype(float)


def test_mean_of_probabilities(members, tmp_path):
    one, other = (probabilities(tmp_path, path[-4], INFERENCE, checkpoint=path) for path in members)
    both = probabilities(tmp_path, "both", INFERENCE + overlays("options/inference_ensemble"), checkpoints=members)
    assert np.abs(one - other).max() > 1000
    assert np.abs(both - (one + other) / 2).max() <= 2  # of 65535
    options = {**TINY, "dataset_dir": tmp_path / "data", "check_data": False}
    files = EVALUATE + overlays("options/ensemble")
    run(files, "evaluating", checkpoints=members, output_dir=tmp_path / "scores", **options)
    mae = read_scores(tmp_path / "scores" / "evaluation", "mae")["case_0.png"]
    mask = np.asarray(Image.open(tmp_path / "data" / "masks" / "case_0.png")) > 0
    assert mae == pytest.approx(np.abs(both / 65535 - mask).mean(), abs=1e-4)


def test_what_is_refused(members, tmp_path):
    files = INFERENCE + overlays("options/inference_ensemble")
    options = {"dataset_dir": tmp_path / "data" / "images", "output_dir": tmp_path / "out", **SMALL}

    def build(checkpoints):
        workflow(files, "inference", checkpoints=checkpoints, **options).parser.get_parsed_content("members")

    assert "takes two files of weights or more, got 1" in refusal(build, members[:1])
    weights = torch.load(members[1], weights_only=True)
    torch.save(with_options(weights, {"image_size": [64, 64]}), members[1])
    assert "trained with other values of image_size" in refusal(build, members)
