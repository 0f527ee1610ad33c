# SPDX-License-Identifier: Apache-2.0
"""Distillation: one network learns from the probabilities of an ensemble, and is validated on true masks."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import SoftDiceCELoss, soft_items

from ..conftest import draw_pairs
from ..data.folders import write_image
from ..support.workflow import TINY, TRAIN, overlays, parsed, refusal, run

OPTIONS = {**TINY, "max_epochs": 1, "val_fraction": 0.2}


def soft_map(path: Path, width: int = 60, height: int = 48) -> np.ndarray:
    """A ramp of probabilities from 0 to 1, of 16 bits."""
    values = np.linspace(0, 65535, width * height).reshape(height, width).round().astype(np.uint16)
    write_image(path, values)
    return values


@pytest.fixture
def soft(tmp_path):
    """Four pairs, two more images, and probabilities of all of them."""
    draw_pairs(tmp_path / "data", 4)
    draw_pairs(tmp_path / "more", 2, "more")
    shutil.rmtree(tmp_path / "more" / "masks")
    for image in (*(tmp_path / "data" / "images").iterdir(), *(tmp_path / "more" / "images").iterdir()):
        soft_map(tmp_path / "soft" / image.name)
    return {"dataset_dir": tmp_path / "data", "soft_dir": tmp_path / "soft", "more_images": tmp_path / "more"}


def test_loss_by_hand():
    """Of probabilities 0.5 and 0.75 for the targets 0.25 and 1: smallest at the targets, unlike MONAI's Dice half."""
    logits, target = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2), torch.tensor([[[[0.25, 1.0]]]])
    entropy = -(0.25 * math.log(0.5) + 0.75 * math.log(0.5) + math.log(0.75)) / 2
    overlap = (0.5 + 0.75 + 0.25 + 1 - 0.25 - 0.25) / 2
    found = SoftDiceCELoss(sigmoid=True)(logits, target).item()
    assert found == pytest.approx(entropy + 1 - 2 * overlap / 2.5, abs=1e-4)
    dice = SoftDiceCELoss(sigmoid=True, lambda_ce=0.0)
    assert dice(torch.logit(target.clamp(1e-6, 1 - 1e-6)), target).item() == pytest.approx(0, abs=1e-4)


ALL = "recipes/recommended options/ema options/lesion_free options/endoscopy options/distil"


@pytest.mark.parametrize("recipe", ["options/distil", ALL, "options/distil recipes/recommended options/disk_cache"])
def test_targets(recipe, soft, tmp_path):
    """Training has the probabilities at the size of the network, validation the masks; weights are written."""
    files = [*TRAIN, *overlays(*recipe.split())]
    options = {**soft, **OPTIONS, "output_dir": tmp_path / "out"}
    options |= {"cache_dir": tmp_path / "cache"} if "disk_cache" in recipe else {}
    parser = run(files, "training", **options).parser
    items, steps = parser.get_parsed_content("train#items"), parser.get_parsed_content("train#cached")
    assert [Path(item["path"]).name for item in items][-2:] == ["more_0.png", "more_1.png"]
    assert len(items) == 5
    sample = items[-1]
    for step in steps:
        sample = step(sample)
    expected = np.linspace(0, 1, 60 * 48).reshape(48, 60)
    rows, columns = (np.floor((np.arange(32) + 0.5) * n / 32).astype(int) for n in (48, 60))
    assert sample["label"].shape == (1, 32, 32)
    assert np.abs(sample["label"][0].numpy() - expected[rows][:, columns]).max() < 1e-3
    batch = torch.stack([one["label"] for one in parser.get_parsed_content("train#trainer").state.output])
    assert 0 <= batch.min() < 0.2 < 0.8 < batch.max() <= 1
    held_out = parser.get_parsed_content("validate#dataset")[0]["label"]
    assert held_out.unique().tolist() == [0, 1]
    assert parser.get_parsed_content("loss").loss.dice.soft_label
    assert (tmp_path / "out" / "models" / "model.pt").is_file()


def refused(soft, **changes):
    options = {**soft, **changes}
    files, data = [*TRAIN, *overlays("options/distil")], {name: str(value) for name, value in options.items()}
    return refusal(parsed(files, bundle_dir=".", **TINY, **data).get_parsed_content, "train#items")


def test_what_is_refused(soft, tmp_path):
    folder = soft["soft_dir"]
    assert "--soft_dir nowhere is no folder. Name the folder probabilities/" in refused(soft, soft_dir="nowhere")
    names = refusal(soft_items, [{"image": "a.png"}], [], str(folder), out_channels=3)
    assert "is for images of one structure, not for volumes or out_channels 3" in names
    (folder / "more_1.png").unlink()
    soft_map(folder / "more_0.png", width=30)
    message = refused(soft)
    assert message.startswith(f"2 problems in {folder}")
    assert "more_0.png: mask of 30 x 48, but more_0.png is 60 x 48" in message
    assert f"more_1.png: has no {folder}/more_1.png" in message
    write_image(folder / "more_0.png", np.zeros((48, 60), np.uint8))
    assert "holds no probabilities, which have 16 bits; its mode is L" in refused(soft)
    message = refused(soft, more_images=tmp_path / "data")
    assert "case_1.png: same name as" in message
    assert message.count("has the name of an image of validation") == 1
    assert Image.open(folder / "case_0.png").mode == "I;16"
