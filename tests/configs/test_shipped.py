# SPDX-License-Identifier: Apache-2.0
"""The shipped weights, on frames that they never saw, and those of ImageNet, from which training starts."""

import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from unetv2_monai import to_mask

from ..conftest import ROOT
from ..support.workflow import DEFAULT_BACKBONE, INFERENCE, TINY, TRAIN, parsed, run, workflow

FILE = ROOT / "bundle" / "models" / f"{DEFAULT_BACKBONE}.safetensors"


def test_inference_by_default_config_on_real_frames(real_data, tmp_path):
    """No option but where the images are; frames of the test split, Dice at their own size."""
    source = real_data / "polyp" / "test" / "kvasir"
    frames = sorted((source / "images").iterdir())[::5]
    (tmp_path / "images").mkdir()
    for frame in frames:
        shutil.copy(frame, tmp_path / "images")
    run(INFERENCE, "inference", dataset_dir=tmp_path / "images", output_dir=tmp_path / "masks")
    dice = []
    for frame in frames:
        pred = np.asarray(Image.open(tmp_path / "masks" / f"{frame.stem}.png")) > 0
        truth = np.asarray(to_mask(Image.open(source / "masks" / f"{frame.stem}.png"))) > 0
        assert pred.shape == truth.shape
        dice.append(2 * (pred & truth).sum() / (pred.sum() + truth.sum()))
    assert len(dice) == 20
    assert np.mean(dice) > 0.75
    assert np.median(dice) > 0.85


def test_every_encoder_weight_comes_from_the_file_and_is_trained(pairs, tmp_path, capsys):
    flow = workflow(TRAIN, "training", dataset_dir=pairs, output_dir=tmp_path, max_epochs=2, **TINY)
    network = flow.parser.get_parsed_content("network")
    assert f"The encoder {DEFAULT_BACKBONE} starts from the weights in {FILE} (ImageNet)." in capsys.readouterr().out
    file, encoder = load_file(FILE), network.encoder.model
    assert file.keys() == encoder.state_dict().keys()
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, file[key].to(value.dtype)), key
    flow.run()
    learnt = dict(encoder.named_parameters())
    moved = {key: (value - file[key]).abs().max().item() for key, value in learnt.items()}
    assert all(0 < distance < 0.1 for distance in moved.values()), moved
    random = parsed(TRAIN, bundle_dir=".", pretrained=False).get_parsed_content("network").encoder.model
    assert not torch.equal(random.conv_stem.weight, file["conv_stem.weight"].float())
