# SPDX-License-Identifier: Apache-2.0
"""The options that weights carry: from training to evaluation and inference, and what contradicts them."""

import logging

import numpy as np
import pytest
import torch
from common.exports import describe
from PIL import Image

from unetv2_monai.bundle.carried import options_to_carry, take_over
from unetv2_monai.networks import options_of, read_weights

from ..conftest import draw_pairs
from ..support.workflow import EVALUATE, INFERENCE, TINY, TRAIN, cases, overlays, parsed, read_scores, refusal, run

SLIDING, VOLUMES = overlays("options/sliding"), overlays("recipes/volumes")
RAISED = {"image_size": [48, 64], "network_def#channels": 8, "out_channels": 1, "spatial_dims": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a training with another size, other channels and another normalisation than the defaults."""
    folder = tmp_path_factory.mktemp("carried")
    draw_pairs(folder / "data", 4)
    files = [*TRAIN, *overlays("recipes/released_isic_inference")]
    options = {**TINY, "image_size": [32, 64], "backbone": "tf_efficientnet_lite0", "max_epochs": 1}
    run(files, "training", dataset_dir=folder / "data", output_dir=folder, **options)
    return folder


def test_training_writes_them_and_scoring_and_segmenting_take_them_over(weights, tmp_path):
    """As if they were all given."""
    path = weights / "models" / "model.pt"
    carried = options_of(read_weights(path))
    assert (carried["image_size"], carried["network_def#channels"]) == ([32, 64], 8)
    assert carried["transforms#normalize"] == {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    torch.save(dict(torch.load(path, weights_only=True)), tmp_path / "bare.pt")
    given = {"image_size": [32, 64], "network_def#channels": 8, "transforms#normalize": carried["transforms#normalize"]}
    scores, masks = [], []
    for checkpoint, options in ((path, {}), (tmp_path / "bare.pt", given)):
        out = tmp_path / checkpoint.stem
        common = {"dataset_dir": weights / "data", "checkpoint": checkpoint, "num_workers": 0, **options}
        run(EVALUATE, "evaluating", output_dir=out, **common)
        scores.append(read_scores(out / "evaluation", "mae"))
        run(INFERENCE, "inference", output_dir=out, **common)
        masks.append(np.asarray(Image.open(out / "case_1.png")))
    assert scores[0] == scores[1]
    np.testing.assert_array_equal(*masks)


def test_an_option_of_the_user_that_contradicts_them(weights, tmp_path, monkeypatch):
    common = {"dataset_dir": weights / "data", "checkpoint": weights / "models" / "model.pt", "output_dir": tmp_path}
    message = refusal(run, INFERENCE, "inference", **common, out_channels=4)
    assert "--out_channels 4 contradicts the weights in" in message
    assert "which were trained with 1" in message
    monkeypatch.setattr("sys.argv", ["run", "inference", "--network_def#channels", "32"])
    message = refusal(run, INFERENCE, "inference", **common, **{"network_def#channels": 32})
    assert "--network_def#channels 32 contradicts" in message


def test_another_size_is_the_user_s_to_choose(caplog):
    parser = parsed(INFERENCE, image_size=[96, 96])
    with caplog.at_level(logging.WARNING):
        take_over(parser, RAISED, "model.pt", ["image_size"])
    assert parser["image_size"] == [96, 96]
    assert "image_size is [96, 96], but the weights in model.pt have [48, 64]" in caplog.text


def test_windows_come_with_the_weights():
    """Of a training with options/sliding.yaml, also into a config without it."""
    carried = options_to_carry(parsed([*TRAIN, *SLIDING]).get())
    for files in (EVALUATE, INFERENCE):
        parser, with_overlay = parsed(files), parsed([*files, *SLIDING])
        take_over(parser, carried, "model.pt")
        assert parser["transforms"]["resize"] == with_overlay["transforms"]["resize"]
        assert parser["inferer"] == with_overlay["inferer"]


def test_volumes():
    carried = options_to_carry(parsed([*TRAIN, *VOLUMES], intensity="ct", window_width=1500, spacing=[1, 1, 2]).get())
    parser = parsed([*INFERENCE, *VOLUMES])
    take_over(parser, carried, "ct.pt")
    assert [parser[key] for key in ("intensity", "window_width", "spacing")] == ["ct", 1500, [1, 1, 2]]
    message = refusal(take_over, parsed([*INFERENCE, *VOLUMES]), carried, "ct.pt", ["intensity"])
    assert "--intensity mr contradicts" in message


@pytest.mark.parametrize(("trained", "files", "message"), cases("refusals", "carried"))
def test_weights_of_another_kind(trained, files, message):
    carried = options_to_carry(parsed([*TRAIN, *overlays(*trained.split())]).get())
    assert message in refusal(take_over, parsed([*INFERENCE, *overlays(*files.split())]), carried, "x.pt")


def test_files_of_plain_tensors_change_nothing():
    for files in (INFERENCE, [*INFERENCE, *VOLUMES]):
        parser = parsed(files)
        take_over(parser, {}, "model.pt")
        assert parser.get() == parsed(files).get()


def test_names_of_the_classes_come_from_the_metadata():
    names = {"0": "background", "1": "polyp", "2": "instrument"}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": names}}}}
    carried = options_to_carry({"out_channels": 3}, metadata)
    assert carried["class_names"] == ["background", "polyp", "instrument"]
    assert "class_names" not in options_to_carry({"out_channels": 1}, metadata)
    assert describe(carried).classes == ("background", "polyp", "instrument")


def test_arguments_of_the_backbone_that_may_shape_weights():
    """Hiera's table of positions has the size of ``img_size``."""
    for given, kept in (({"drop_path_rate": 0.1, "img_size": [64, 64]}, {"img_size": [64, 64]}), (None, None)):
        network = {"_target_": "unetv2_monai.UNetV2", "backbone_args": given}
        assert options_to_carry({"network_def": network}).get("network_def#backbone_args") == kept
