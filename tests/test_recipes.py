# SPDX-License-Identifier: Apache-2.0
"""Recipes and the rows of the paper's ablation, trained for a few steps through the configs."""

from __future__ import annotations

import csv
import math
import re

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from unetv2_monai import UNetV2

from .conftest import CONFIGS, ROOT
from .test_bundle import EVALUATE, INFERENCE, TINY, TRAIN, run

VOLUMES, VOLUMES_INFERENCE = (str(CONFIGS / "recipes" / f"{name}.yaml") for name in ("volumes", "volumes_inference"))
ROWS = {
    "attention spatial_first": {"network_def#attention": "spatial_first"},
    "sdi False": {"network_def#sdi": False},
    "attention none": {"network_def#attention": "none"},
    "channels 16": {"network_def#channels": 16},
    "fusion add": {"network_def#fusion": "add"},
    "upsample interp": {"network_def#upsample": "interp"},
    "deep_supervision False": {"network_def#deep_supervision": False},
}


def train_a_little(files, pairs, out, **overrides) -> None:
    options = {"dataset_dir": str(pairs), "output_dir": str(out), "max_epochs": 1, "val_fraction": 0.2, **TINY}
    flow = run(files, "training", **{**options, **overrides})
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration >= 2
    assert math.isfinite(trainer.state.metrics["train_loss"])
    assert (out / "models" / "model.pt").exists()


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_the_ablation(row, pairs, tmp_path):
    assert f"--network_def#{row}" in (ROOT / "docs" / "network.md").read_text()
    train_a_little(TRAIN, pairs, tmp_path, **ROWS[row])


def test_frozen_encoder_and_gradient_checkpointing(pairs, tmp_path):
    train_a_little(TRAIN, pairs, tmp_path, **{"network_def#freeze_encoder": True})
    train_a_little(TRAIN, pairs, tmp_path, **{"network_def#grad_checkpointing": True})


def test_compiled(pairs, tmp_path):
    """Through a backend that starts at once; the weights keep their names."""
    compiled = "$torch.compile(@network, backend='aot_eager')"
    train_a_little(TRAIN, pairs, tmp_path, **{"train#trainer#network": compiled})
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert state.keys() == UNetV2(backbone="pvt_v2_b0", channels=8).state_dict().keys()


@pytest.mark.slow
def test_compiled_by_default_backend(pairs, tmp_path):
    train_a_little(TRAIN, pairs, tmp_path, compile=True)


def test_unetplusplus_row(pairs, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    recipe = str(CONFIGS / "recipes" / "unetplusplus.yaml")
    options = {"dataset_dir": str(pairs), "output_dir": str(tmp_path), "image_size": 64, "batch_size": 2}
    flow = run(
        [*TRAIN, recipe], "training", max_epochs=1, num_workers=0, encoder_lr_factor=0.5, val_fraction=0.2, **options
    )
    network = flow.parser.get_parsed_content("network_def")
    assert type(network).__name__ == "UnetPlusPlus"
    assert network.encoder.out_channels[-4:] == [32, 64, 160, 256]
    assert len(flow.parser.get_parsed_content("optimizer").param_groups) == 2


def test_encoder_learns_at_its_own_rate(pairs):
    from .test_bundle import workflow

    flow = workflow(TRAIN, "training", dataset_dir=str(pairs), encoder_lr_factor=0.1, **TINY)
    network = flow.parser.get_parsed_content("network")
    encoder, others = flow.parser.get_parsed_content("optimizer").param_groups
    assert (encoder["lr"], others["lr"]) == pytest.approx((0.0001, 0.001))
    assert len(encoder["params"]) == len(list(network.encoder.parameters()))
    assert len(encoder["params"]) + len(others["params"]) == len(list(network.parameters()))


def write_volume(path, values: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def test_volumes_are_preprocessed_alike_in_training_and_inference():
    train, inference = (ConfigParser.load_config_file(path) for path in (VOLUMES, VOLUMES_INFERENCE))
    for key in ("image_transforms", "out_channels", "backbone", "image_size", "network_def#out_indices"):
        assert train[key] == inference[key]
    assert train["validate#inferer"] == inference["inferer"]


def test_volumes(tmp_path):
    """Training, evaluation and inference on NIfTI; predicted labels lie where their image lies."""
    rng = np.random.default_rng(0)
    affine = np.array([[-1.5, 0, 0, 10], [0, 0, 2, -5], [0, -1, 0, 3], [0, 0, 0, 1.0]])  # turned and flipped
    for index in range(4):
        shape = (18 + index, 21, 17)
        label = np.zeros(shape, np.uint8)
        label[3:9, 4:12, 3:9], label[9:14, 8:16, 6:14] = 1, 2
        image = (rng.normal(0, 5, shape) + 60 * label).astype(np.float32)
        write_volume(tmp_path / "data" / "imagesTr" / f"v{index}.nii.gz", image, affine)
        write_volume(tmp_path / "data" / "labelsTr" / f"v{index}.nii.gz", label, affine)
    small = {
        "image_size": [16, 16, 16],
        "network_def#channels": 8,
        "num_workers": 0,
        "dataset_dir": str(tmp_path / "data"),
    }
    out = tmp_path / "out"
    run([*TRAIN, VOLUMES], "training", output_dir=str(out), max_epochs=12, batch_size=2, val_fraction=0.25, **small)
    files = [*TRAIN, VOLUMES, EVALUATE[1]]
    run(files, "evaluating", output_dir=str(out), **small)
    with (out / "evaluation" / "scores.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["class"] for row in rows] == ["1", "2"] * 4  # without the background
    run(
        [*INFERENCE, VOLUMES_INFERENCE], "inference", output_dir=str(tmp_path / "masks"),
        checkpoint=str(out / "models" / "model.pt"), **{**small, "dataset_dir": str(tmp_path / "data" / "imagesTr")},
    )  # fmt: skip
    for first, second in zip(rows[::2], rows[1::2]):
        name = first["image"].rsplit("/", 1)[1]
        image, label, prediction = (
            nibabel.load(folder / name)
            for folder in (tmp_path / "data" / "imagesTr", tmp_path / "data" / "labelsTr", tmp_path / "masks")
        )
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine)
        truth, guess = np.asarray(label.dataobj), np.asarray(prediction.dataobj)
        dice = [2 * ((truth == c) & (guess == c)).sum() / ((truth == c).sum() + (guess == c).sum()) for c in (1, 2)]
        assert [float(first["dice"]), float(second["dice"])] == pytest.approx(dice, abs=1e-4)


def test_documented_commands_name_files_that_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(r"(?:bundle|scripts)/[\w/]+\.(?:json|yaml|py)", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_smoke_overlay(pairs, tmp_path):
    run(
        [*TRAIN, str(CONFIGS / "options" / "smoke.yaml")],
        "training",
        dataset_dir=str(pairs),
        output_dir=str(tmp_path),
        num_workers=0,
    )
    assert torch.load(tmp_path / "models" / "last_checkpoint_epoch=2.pt", weights_only=True)["trainer"]["iteration"] > 0
