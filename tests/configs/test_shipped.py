# SPDX-License-Identifier: Apache-2.0
"""The weights that ship with the bundle: small, for the default configs, and sensible on frames they never saw."""

from __future__ import annotations

import shutil

import numpy as np
import torch
from PIL import Image

from unetv2_monai import to_mask

from ..conftest import ROOT
from ..support.workflow import INFERENCE, parsed, run

WEIGHTS = ROOT / "bundle" / "models" / "model.pt"


def test_small_and_strict():
    assert WEIGHTS.stat().st_size <= 25e6
    state = torch.load(WEIGHTS, weights_only=True)
    parsed(INFERENCE).get_parsed_content("network_def").load_state_dict(state, strict=True)
    assert all(torch.isfinite(value).all() for value in state.values())


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
