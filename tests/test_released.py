# SPDX-License-Identifier: Apache-2.0
"""The released network's weights and its own scoring."""

import pytest
import torch

from unetv2_monai import UNetV2, convert_released_state_dict
from unetv2_monai.released import TwoFinestHeads, released_scores

from . import golden


@pytest.mark.parametrize("change", [{"seg_outs.4.weight": torch.zeros(1)}, {"encoder.conv1.weight": torch.zeros(1)}])
def test_conversion_refuses_what_it_does_not_know(change):
    with pytest.raises(ValueError, match=f"unknown entries.*{next(iter(change))}"):
        convert_released_state_dict(golden.released_state_dict(1) | change)
    with pytest.raises(ValueError, match="empty"):
        convert_released_state_dict({})


def test_released_scoring_stretches_each_image():
    """Sigmoids of 0.12, 0.18, 0.27, 0.5, of which ours marks nothing, become 0, 0.16, 0.39, 1."""
    logits = torch.tensor([[[-2.0, -1.5], [-1.0, 0.0]]])
    label = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    scores = released_scores(logits, label)
    assert scores["released_dice"] == pytest.approx(2 * 1 / (1 + 2), abs=1e-4)
    assert scores["released_iou"] == pytest.approx(1 / 2, abs=1e-4)
    # on an image without a lesion it cannot score: something is always marked
    assert released_scores(logits, torch.zeros(1, 2, 2))["released_dice"] == pytest.approx(0, abs=1e-4)


def test_two_finest_heads_are_those_of_training():
    """Evaluation computes one head; the second, added here, is the one that deep supervision returns."""
    torch.manual_seed(0)
    net = UNetV2(backbone="pvt_v2_b0", channels=8, deep_supervision=True).eval()
    heads, image = TwoFinestHeads(net), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        finest = net(image)
        found = heads.logits(finest)
        for module in (net, net.heads):  # all heads, with the statistics of evaluation
            module.training = True
        both = net(image)
    second = torch.nn.functional.interpolate(both[1], size=(64, 96), mode="bilinear", align_corners=False)
    assert torch.allclose(found, both[0] + second, atol=1e-5)
    assert heads.passes == 1  # of training, above
    net.training = False
    with torch.no_grad():
        net(image)
    assert heads.logits(finest) is None  # two passes since
    assert TwoFinestHeads(torch.nn.Identity()).logits(finest) is finest  # another network has its output alone
