# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from unetv2_monai import HysteresisThresholdd

PROBABILITY = [
    [0.95, 0.60, 0.00, 0.60, 0.00],
    [0.00, 0.00, 0.55, 0.00, 0.00],  # touches the first row at corners
    [0.00, 0.00, 0.00, 0.00, 0.70],
    [0.50, 0.00, 0.00, 0.00, 0.89],
]
LOW = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
CERTAIN = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("high", "expected"), [(0.5, LOW), (0.89, LOW), (0.9, CERTAIN), (0.96, torch.zeros(4, 5).tolist())]
)
def test_components_that_are_certain_somewhere(high, expected):
    probability = MetaTensor(torch.tensor([PROBABILITY]), meta={"filename_or_obj": "frame.png"})
    found = HysteresisThresholdd("pred", high=high)({"pred": probability, "image": 1})
    assert found["image"] == 1
    assert found["pred"].dtype == torch.float32
    assert found["pred"].tolist() == [expected]
    assert found["pred"].meta["filename_or_obj"] == "frame.png"
    assert probability[0, 3, 4] == pytest.approx(0.89)  # untouched


def test_volumes_and_empty_masks():
    volume = torch.zeros(1, 3, 3, 3)
    volume[0, 0, 0, 0], volume[0, 1, 1, 1], volume[0, 2, 2, 0] = 0.6, 0.95, 0.4
    found = HysteresisThresholdd("pred")({"pred": volume})["pred"]
    assert found.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert HysteresisThresholdd("pred")({"pred": torch.zeros(1, 4, 4)})["pred"].sum() == 0
    with pytest.raises(KeyError, match="pred"):
        HysteresisThresholdd("pred")({})
