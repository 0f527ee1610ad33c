# SPDX-License-Identifier: Apache-2.0
"""Lesions one by one, against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from unetv2_monai.core.lesions import lesion_columns, lesion_rows, measure_lesions


@pytest.mark.parametrize("shape", [(40, 30), (1, 9), (12, 9, 10)])
@pytest.mark.parametrize("turned", [False, True])
def test_lesions_are_those_of_scipy(shape, turned):
    """Also where the array is a transposed view."""
    rng, dimensions = np.random.default_rng(0), len(shape)
    mask, probability = (rng.random(shape) < 0.15) * rng.choice([1, 3], shape), rng.random((4, *shape))
    if turned:
        mask, probability = mask.T, probability.transpose(0, *range(dimensions, 0, -1))
    columns = lesion_columns(dimensions)[3:]
    rows = [dict(zip(columns, row)) for row in measure_lesions(mask, probability, [0.5] * dimensions)]
    unit, places = (("pixels", "mm2"), ("left", "top")) if dimensions == 2 else (("voxels", "mm3"), ("x", "y", "z"))
    for index in (1, 3):  # there is no class 2
        labels, count = ndimage.label(mask == index, np.ones((3,) * dimensions))
        found = [row for row in rows if row["class"] == index]
        assert len(found) == count
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels == number
            peak, start = f"{probability[index][inside].max():.4f}", [side.start for side in box]
            (row,) = [one for one in found if one["probability"] == peak and [one[name] for name in places] == start]
            assert row[unit[0]] == inside.sum()
            center = np.array(ndimage.center_of_mass(inside)) + 0.5
            assert [float(row[f"center_{axis}"]) for axis in "xyz"[:dimensions]] == pytest.approx(center, abs=0.051)
            assert float(row["mean_probability"]) == pytest.approx(probability[index][inside].mean(), abs=1e-4)
            assert float(row[unit[1]]) == pytest.approx(inside.sum() * 0.5**dimensions)
            assert row["touches_border"] == int(any(s.start == 0 or s.stop == n for s, n in zip(box, mask.shape)))
    assert measure_lesions(mask * 0, probability) == []
    assert lesion_rows("a.png", "", [[1, 2]]) == [["a.png", "", "1", "1", "2"]]
