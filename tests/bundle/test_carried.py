# SPDX-License-Identifier: Apache-2.0
"""The options that weights carry: from training to evaluation and inference, and what contradicts them."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, UNetV2
from unetv2_monai.bundle.carried import options_to_carry, take_over
from unetv2_monai.networks import options_of, read_weights, with_options

from ..conftest import draw_pair
from ..support.workflow import CONFIGS, EVALUATE, INFERENCE, TRAIN, read_scores, root_error, run

SLIDING, VOLUMES = (str(CONFIGS / f"{name}.yaml") for name in ("options/sliding", "recipes/volumes"))
RAISED = {"image_size": [48, 64], "network_def#channels": 8, "out_channels": 1, "spatial_dims": 2}


def content(files: list[str], **options) -> dict:
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(options)
    return parser.get()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a training with another size, other channels and another normalisation than the defaults."""
    folder = tmp_path_factory.mktemp("carried")
    for index in range(4):
        draw_pair(folder / "data", f"case_{index}", 60, 48, seed=index)
    run(
        [*TRAIN, str(CONFIGS / "recipes" / "released_isic_inference.yaml")], "training",
        dataset_dir=str(folder / "data"), output_dir=str(folder), backbone="tf_efficientnet_lite0", max_epochs=1,
        num_workers=0, batch_size=2, image_size=[32, 64], **{"network_def#channels": 8},
    )  # fmt: skip
    return folder


def test_training_writes_them_and_scoring_and_segmenting_take_them_over(weights, tmp_path):
    """As if they were all given."""
    path = str(weights / "models" / "model.pt")
    carried = options_of(read_weights(path))
    assert (carried["image_size"], carried["network_def#channels"]) == ([32, 64], 8)
    assert carried["transforms#normalize"] == {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    torch.save(dict(torch.load(path, weights_only=True)), tmp_path / "bare.pt")
    given = {"image_size": [32, 64], "network_def#channels": 8, "transforms#normalize": carried["transforms#normalize"]}
    scores, masks = [], []
    for name, checkpoint, options in (("carried", path, {}), ("given", str(tmp_path / "bare.pt"), given)):
        common = {"dataset_dir": str(weights / "data"), "checkpoint": checkpoint, "num_workers": 0, **options}
        run(EVALUATE, "evaluating", output_dir=str(tmp_path / name), **common)
        scores.append(read_scores(tmp_path / name / "evaluation", "mae"))
        run(INFERENCE, "inference", output_dir=str(tmp_path / name / "masks"), **common)
        with Image.open(tmp_path / name / "masks" / "case_1.png") as opened:
            masks.append(opened.tobytes())
    assert scores[0] == scores[1]
    assert masks[0] == masks[1]


def test_an_option_of_the_user_that_contradicts_them(weights, tmp_path, monkeypatch):
    common = {"dataset_dir": str(weights / "data"), "checkpoint": str(weights / "models" / "model.pt")}
    with pytest.raises(Exception) as info:  # noqa: PT011 - MONAI's own error types, looked through below
        run(INFERENCE, "inference", output_dir=str(tmp_path), **common, out_channels=4)
    assert "--out_channels 4 contradicts the weights in" in str(root_error(info))
    assert "which were trained with 1" in str(root_error(info))
    monkeypatch.setattr(sys, "argv", ["run", "inference", "--network_def#channels", "32"])
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(INFERENCE, "inference", output_dir=str(tmp_path), **common, **{"network_def#channels": 32})
    assert "--network_def#channels 32 contradicts" in str(root_error(info))


def test_another_size_is_the_user_s_to_choose(caplog):
    parser = ConfigParser(content(INFERENCE, image_size=[96, 96]))
    with caplog.at_level(logging.WARNING):
        take_over(parser, RAISED, "model.pt", ["image_size"])
    assert parser["image_size"] == [96, 96]
    assert "image_size is [96, 96], but the weights in model.pt were trained with [48, 64]" in caplog.text


def test_windows_come_with_the_weights():
    """Of a training with options/sliding.yaml, also into a config without it."""
    carried = options_to_carry(content([*TRAIN, SLIDING]))
    for files in (EVALUATE, INFERENCE):
        parser = ConfigParser(content(files))
        take_over(parser, carried, "model.pt")
        with_overlay = content([*files, SLIDING])
        assert parser["transforms"]["resize"] == with_overlay["transforms"]["resize"]
        assert parser["inferer"] == with_overlay["inferer"]


def test_volumes():
    carried = options_to_carry(content([*TRAIN, VOLUMES], intensity="ct", window_width=1500, spacing=[1, 1, 2]))
    parser = ConfigParser(content([*INFERENCE, VOLUMES]))
    take_over(parser, carried, "ct.pt")
    assert [parser[key] for key in ("intensity", "window_width", "spacing")] == ["ct", 1500, [1, 1, 2]]
    with pytest.raises(InputError, match=r"the weights in ct\.pt are for volumes\. Add recipes/volumes\.yaml\."):
        take_over(ConfigParser(content(INFERENCE)), carried, "ct.pt")
    with pytest.raises(InputError, match=r"are for images\. Leave out recipes/volumes\.yaml\."):
        take_over(ConfigParser(content([*INFERENCE, VOLUMES])), RAISED, "model.pt")
    with pytest.raises(InputError, match="--intensity mr contradicts"):
        take_over(ConfigParser(content([*INFERENCE, VOLUMES])), carried, "ct.pt", ["intensity"])


def test_weights_of_another_kind_of_network():
    carried = options_to_carry(content([*TRAIN, str(CONFIGS / "recipes" / "segresnet.yaml")]))
    with pytest.raises(InputError, match=r"are of SegResNet, but the config has unetv2_monai\.UNetV2\. Add the recipe"):
        take_over(ConfigParser(content(INFERENCE)), carried, "model.pt")


def test_files_of_plain_tensors_change_nothing():
    for files in (INFERENCE, [*INFERENCE, VOLUMES]):
        parser = ConfigParser(content(files))
        take_over(parser, {}, "model.pt")
        assert parser.get() == content(files)


def test_a_resumed_or_copied_file_keeps_them(tmp_path):
    state = with_options(UNetV2(backbone="pvt_v2_b0", channels=8).state_dict(), RAISED)
    torch.save(state, tmp_path / "model.pt")
    torch.save({"model": torch.load(tmp_path / "model.pt", weights_only=True)}, tmp_path / "nested.pt")
    assert options_of(read_weights(tmp_path / "nested.pt")) == RAISED
