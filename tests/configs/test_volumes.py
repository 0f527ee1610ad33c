# SPDX-License-Identifier: Apache-2.0
"""The recipe for volumes."""

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import SurfaceDiceMetric

from ..conftest import draw_boxes, read_table
from ..support.workflow import EVALUATE, INFERENCE, TRAIN, overlays, parsed, run

VOLUMES = overlays("recipes/volumes")


def test_volumes_after_the_recommended_recipe():
    """Its optimiser and schedule, with the transforms and batches of volumes."""
    alone = parsed([*TRAIN, *VOLUMES])
    recommended = parsed([*TRAIN, *overlays("recipes/recommended"), *VOLUMES], bundle_dir=".")
    assert (recommended["learning_rate"], recommended["max_epochs"]) == (0.002, 24)
    for key in ("batch_size", "transforms#cached", "transforms#crops", "transforms#augment", "validate#preprocessing"):
        assert recommended[key] == alone[key]
    optimizer = recommended.get_parsed_content("optimizer")
    network = recommended.get_parsed_content("network")
    assert type(optimizer).__name__ == "Muon"
    optimised = sorted(id(one) for group in optimizer.param_groups for one in group["params"])
    assert optimised == sorted(id(one) for one in network.parameters() if one.requires_grad)


def test_volumes(tmp_path):
    """Training, evaluation and inference on NIfTI; predicted labels lie where their image lies."""
    affine = np.array([[-1.5, 0, 0, 10], [0, 0, 2, -5], [0, -1, 0, 3], [0, 0, 0, 1.0]])  # turned and flipped
    draw_boxes(tmp_path / "data", 4, affine)
    images, labels, out = (tmp_path / name for name in ("data/imagesTr", "data/labelsTr", "out"))
    small = {"image_size": [16, 16, 16], "network_def#channels": 8, "num_workers": 0, "dataset_dir": tmp_path / "data"}
    options = {"max_epochs": 12, "batch_size": 2, "val_fraction": 0.25, **small}
    run([*TRAIN, *VOLUMES], "training", output_dir=out, **options)
    run([*TRAIN, *VOLUMES, EVALUATE[1]], "evaluating", output_dir=out, surface_tolerance=1.5, **small)
    rows = read_table(out / "evaluation" / "scores.csv")
    assert [row["class"] for row in rows] == ["1", "2"] * 4  # without the background
    options = {**small, "dataset_dir": images, "checkpoint": out / "models" / "model.pt"}
    run([*INFERENCE, *VOLUMES], "inference", output_dir=out, **options)
    for first, second in zip(rows[::2], rows[1::2]):
        name = first["image"].rsplit("/", 1)[1]
        image, label, prediction = (nibabel.load(folder / name) for folder in (images, labels, out))
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine)
        truth, guess = np.asarray(label.dataobj), np.asarray(prediction.dataobj)
        dice = [2 * ((truth == c) & (guess == c)).sum() / ((truth == c).sum() + (guess == c).sum()) for c in (1, 2)]
        assert [float(first["dice"]), float(second["dice"])] == pytest.approx(dice, abs=1e-4)
        metric = SurfaceDiceMetric([1.5, 1.5])  # without the background; mm
        one_hot = (torch.from_numpy(np.stack([values == c for c in (0, 1, 2)]))[None] for values in (guess, truth))
        surface = metric(*one_hot, spacing=[1.5, 1.0, 2.0])[0].tolist()
        assert [float(first["surface_dice"]), float(second["surface_dice"])] == pytest.approx(surface, abs=1e-4)
