# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from unetv2_monai import HysteresisThresholdd
from unetv2_monai.core.hysteresis import hysteresis

PROBABILITY = [
    [0.95, 0.60, 0.00, 0.60, 0.00],
    [0.00, 0.00, 0.55, 0.00, 0.00],  # touches the first row at corners
    [0.00, 0.00, 0.00, 0.00, 0.70],
    [0.50, 0.00, 0.00, 0.00, 0.89],
]
ALL = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]]
LIKELY = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
CERTAIN = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("high", "expected"),
    [(0.4, ALL), (0.5, ALL), (0.51, LIKELY), (0.89, LIKELY), (0.9, CERTAIN), (0.96, torch.zeros(4, 5).tolist())],
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
    several = torch.rand(3, 4, 4)
    assert HysteresisThresholdd("pred")({"pred": several})["pred"].equal(several)
    with pytest.raises(KeyError, match="pred"):
        HysteresisThresholdd("pred")({})


@pytest.mark.parametrize("seed", range(24))
def test_components_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2) if seed % 2 else rng.integers(1, 20, 3))
    probability = (rng.random(shape) ** rng.choice([0.5, 1, 2])).astype(np.float32)
    components = ndimage.label(probability >= 0.5, np.ones((3,) * len(shape)))[0]
    certain = np.unique(components[probability >= 0.97])
    expected = np.isin(components, certain[certain > 0])
    np.testing.assert_array_equal(hysteresis(probability, 0.5, 0.97), expected)
