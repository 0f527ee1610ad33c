# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from unetv2_monai import StructureLoss

from .support.workflow import refusal


def by_hand(logits: np.ndarray, mask: np.ndarray, weighted: bool) -> float:
    """One image, in loops: the mean of the 31 x 31 pixels around each, zeros outside."""
    padded = np.pad(mask, 15)
    height, width = mask.shape
    around = np.array([[padded[y : y + 31, x : x + 31].sum() / 961 for x in range(width)] for y in range(height)])
    weight = 1 + 5 * np.abs(around - mask)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(mask * np.log(p) + (1 - mask) * np.log(1 - p))
    entropy = (weight * entropy).sum() / weight.sum() if weighted else entropy.mean()
    overlap = (weight * p * mask).sum()
    iou = (overlap + 1) / ((weight * (p + mask)).sum() - overlap + 1)
    return entropy + 1 - iou


@pytest.mark.parametrize("weighted", [True, False])
def test_structure_loss_by_hand(weighted):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 20, 24))
    masks = np.zeros((2, 20, 24))
    masks[0, 4:12, 6:20], masks[1, 10:12, 3:5] = 1, 1
    expected = np.mean([by_hand(one, mask, weighted) for one, mask in zip(logits, masks)])
    loss = StructureLoss(bce_weighting=weighted)
    assert loss(torch.tensor(logits)[:, None], torch.tensor(masks)[:, None]).item() == pytest.approx(expected)


def test_what_is_refused():
    message = refusal(StructureLoss(), torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))
    assert "for one structure (out_channels 1), not for 3 channels" in message
    volumes = torch.zeros(2, 1, 8, 8, 8)
    assert "is for images, not for volumes" in refusal(StructureLoss(), volumes, volumes)
