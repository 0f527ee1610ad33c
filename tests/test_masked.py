# SPDX-License-Identifier: Apache-2.0
"""Pixels of unknown class: losses and scores are those of the other pixels alone."""

import json
import math

import numpy as np
import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceFocalLoss, TverskyLoss
from PIL import Image

from unetv2_monai import ClearIgnoredd, ignoring
from unetv2_monai.data.checks import check_pair, lesion_share

from .data.folders import write_volume
from .support.workflow import EVALUATE, INFERENCE, TINY, overlays, read_table, refusal, run

BY_COLOR = {"black": 0, "white": 1, "gray": 255}


def test_loss_by_hand():
    """Of four pixels, two unknown: the cross-entropy of the others is log 2 and log(1 + e^-2)."""
    logits = torch.tensor([[[[0.0, 2.0, 9.0, -9.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.0, 1.0, 255.0, 255.0]]]])
    loss = ignoring(torch.nn.BCEWithLogitsLoss(), 255)(logits, target)
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-2))) / 2)
    loss.backward()
    assert logits.grad.flatten()[2:].tolist() == [0, 0]
    assert ignoring(torch.nn.BCEWithLogitsLoss(), 255)(logits, torch.full_like(target, 255.0)).item() == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [DiceCELoss, DiceFocalLoss, TverskyLoss])
def test_loss_is_that_of_the_other_pixels(kind, channels):
    """As of an image that ends where the unknown part begins; at two heads, and of a mean over two images."""
    loss = kind(sigmoid=channels == 1, softmax=channels > 1, to_onehot_y=channels > 1)
    torch.manual_seed(0)
    heads, target = (
        [torch.randn(2, channels, 8, 8), torch.randn(2, channels, 4, 4)],
        torch.randint(0, 2, (2, 1, 8, 8)).float(),
    )
    part = [(slice(0, 1), 4), (slice(1, 2), 8)]  # the second image is whole
    target[0, :, :, 4:] = 255
    halves = torch.nn.functional.interpolate(target, (4, 4), mode="nearest-exact")
    expected = sum(
        weight * sum(loss(head[one, ..., : width // cut], mask[one, ..., : width // cut]) for one, width in part) / 2
        for weight, head, mask, cut in ((1, heads[0], target, 1), (0.5, heads[1], halves, 2))
    )
    found = ignoring(DeepSupervisionLoss(loss), 255)(heads, target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cleared_by_hand():
    label = torch.tensor([[0.0, 1, 2, 255]])
    several = torch.tensor([[0.1, 0.2, 0.3, 0.1], [0.9, 0.8, 0.7, 0.9]])
    item = ClearIgnoredd(["pred", "prob"], 255)({"label": label, "pred": several, "prob": several[1:]})
    assert item["label"].tolist() == [[0, 1, 2, 0]]
    assert item["pred"][:, 3].tolist() == [1, 0]
    assert item["prob"].tolist() == [[*several[1, :3].tolist(), 0]]
    assert item["valid"].tolist() == [[True, True, True, False]]


def test_scores_without_unknown_pixels(trained, tmp_path):
    """Counts and errors of an evaluation, against those of the written masks and probabilities."""
    data, weights = trained[0], trained[1] / "models" / "model.pt"
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "images").symlink_to(data / "images")
    for path in sorted((data / "masks").iterdir()):
        mask = np.array(Image.open(path))
        mask[:, mask.shape[1] // 2 :] = 128
        (tmp_path / "test" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "test" / "masks" / path.name)
    options = {**TINY, "dataset_dir": tmp_path / "test", "checkpoint": weights}
    files = [EVALUATE[0], *overlays("options/mask_colors", "options/ignore"), EVALUATE[1]]
    run(files, "evaluating", **options, output_dir=tmp_path / "out", mask_colors=BY_COLOR)
    del options["batch_size"], options["learning_rate"]
    run(INFERENCE, "inference", **options, output_dir=tmp_path / "out" / "masks", save_probabilities=True)
    rows = read_table(tmp_path / "out" / "evaluation" / "scores.csv")
    bins = np.zeros(20)
    for row in rows:
        stem = row["image"].rpartition("/")[2].partition(".")[0]
        found, truth, sure = (
            np.array(Image.open(path))
            for path in (
                tmp_path / "out" / "masks" / f"{stem}.png",
                tmp_path / "test" / "masks" / f"{stem}.png",
                tmp_path / "out" / "masks" / "probabilities" / f"{stem}.png",
            )
        )
        known = truth != 128
        found, truth, sure = found[known] > 0, truth[known] == 255, sure[known] / 65535
        counts = [int((a & b).sum()) for a, b in ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))]
        assert [int(row[key]) for key in ("tp", "fp", "fn", "tn")] == counts
        assert float(row["mae"]) == pytest.approx(np.abs(sure - truth).mean(), abs=1e-4)
        bins += np.bincount((sure * 20).astype(int).clip(0, 19), minlength=20)
    summary = json.loads((tmp_path / "out" / "evaluation" / "summary.json").read_text())["test"]
    assert sum(row[0] for row in summary["calibration"]) == bins.sum()


def test_volumes_may_have_unknown_voxels(tmp_path):
    label = np.zeros((6, 6, 6), np.uint8)
    label[:2], label[3:4] = 1, 255
    item = {"image": write_volume(tmp_path / "a.nii", (6, 6, 6)), "label": write_volume(tmp_path / "b.nii", label)}
    check_pair(item, 2, ignore_label=255)
    assert "label values [0 1 255], expected 0 to 1" in refusal(check_pair, item, 2)
    assert lesion_share(item, out_channels=2, colors=None, ignore_label=255) == pytest.approx(2 / 6)
