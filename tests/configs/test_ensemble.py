# SPDX-License-Identifier: Apache-2.0
"""An ensemble is the mean of its members' probabilities, in inference and in evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import Ensemble, SlabInferer, UNetV2, agreement
from unetv2_monai.networks import with_options

from ..conftest import draw_pairs
from ..support.workflow import EVALUATE, INFERENCE, TINY, overlays, read_scores, read_table, refusal, run, workflow

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


def picture(path):
    return np.asarray(Image.open(path)).astype(float)


def probabilities(tmp_path, name, files, **options):
    data = tmp_path / "data" / "images"
    options = {"dataset_dir": data, "output_dir": tmp_path / name, "save_probabilities": True, **SMALL, **options}
    run(files, "inference", **options)
    return picture(tmp_path / name / "probabilities" / "case_0.png")


def test_mean_and_agreement(members, tmp_path):
    one, other = (probabilities(tmp_path, path[-4], INFERENCE, checkpoint=path) for path in members)
    files = INFERENCE + overlays("options/ensemble", "options/inference_agreement")
    both = probabilities(tmp_path, "both", files, checkpoints=members)
    assert np.abs(one - other).max() > 1000
    assert np.abs(both - (one + other) / 2).max() <= 2  # of 65535
    spread = picture(tmp_path / "both" / "disagreement" / "case_0.png")
    away = np.abs(one - other) > 3000  # bilinear between pixels of other signs, the difference is smaller than the mean
    assert np.median(spread[away] / (np.abs(one - other) / 2)[away]) == pytest.approx(1, abs=0.02)
    options = {**TINY, "dataset_dir": tmp_path / "data", "check_data": False}
    files = EVALUATE + overlays("options/ensemble")
    run(files, "evaluating", checkpoints=members, output_dir=tmp_path / "scores", **options)
    mae = read_scores(tmp_path / "scores" / "ensemble" / "evaluation", "mae")["case_0.png"]
    mask = picture(tmp_path / "data" / "masks" / "case_0.png") > 0
    assert mae == pytest.approx(np.abs(both / 65535 - mask).mean(), abs=1e-4)
    found = read_scores(tmp_path / "scores" / "ensemble" / "evaluation", "agreement")
    rows = {row["file"]: float(row["agreement"]) for row in read_table(tmp_path / "both" / "images.csv")}
    assert rows == pytest.approx(found, abs=1e-4)
    marked = one > 32767, other > 32767  # at the size of the image
    dice = 2 * (marked[0] & marked[1]).sum() / (marked[0].sum() + marked[1].sum())
    assert rows["case_0.png"] == pytest.approx(dice, abs=0.03)


def test_agreement_by_hand():
    """Of three networks on four pixels: pairs with Dice 2/3, 2/3 and 1, then with two empty masks."""
    found = agreement(torch.tensor([[[0.6, 0.5, 0.1, 0.0]], [[0.9, 0.4, 0.1, 0.2]], [[0.7, 0.3, 0.2, 0.1]]]))
    assert found.tolist() == pytest.approx([(2 / 3 + 2 / 3 + 1) / 3])
    found = agreement(torch.tensor([[[0.6, 0.4]], [[0.1, 0.4]], [[0.3, 0.3]]]))
    assert found.tolist() == pytest.approx([1 / 3])
    classes = torch.tensor([[0, 1, 1, 2], [0, 1, 2, 2]])  # of class 1 Dice 2/3, of class 2 2/3, without the background
    found = agreement(torch.nn.functional.one_hot(classes, 4).permute(0, 2, 1).float())
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 1])


def test_what_is_refused(members, tmp_path):
    options = {"dataset_dir": tmp_path / "data" / "images", "output_dir": tmp_path / "out", **SMALL}

    def build(checkpoints, *names, part="evaluated_network"):
        files = INFERENCE + overlays(*(names or ["options/ensemble"]))
        given = {"checkpoints": checkpoints} if checkpoints else {"checkpoint": members[0]}
        workflow(files, "inference", **given, **options).parser.get_parsed_content(part)

    assert "takes two files of weights or more, got 1" in refusal(build, members[:1])
    message = refusal(build, None, "options/inference_agreement", part="handlers")
    assert "give ensemble before agreement" in message
    assert "takes one network" in refusal(SlabInferer(32), torch.zeros(1, 1, 32, 32, 32), Ensemble([]))
    weights = torch.load(members[1], weights_only=True)
    torch.save(with_options(weights, {"image_size": [64, 64]}), members[1])
    assert "trained with other values of image_size" in refusal(build, members)
    other = UNetV2(2, 3, 3, backbone="tf_efficientnet_lite0", channels=8)
    torch.save(with_options(other.state_dict(), {"image_size": [32, 32], "out_channels": 3}), members[1])
    assert f"{members[1]} holds weights of another network" in refusal(build, members)
