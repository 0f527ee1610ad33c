# SPDX-License-Identifier: Apache-2.0
"""Volumes as pictures: which slices, where they are, which way up, and in which proportions."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from common.pictures import fullest_slices, picture

SIZE = (4, 3, 2)  # left to right, back to front, below to above
RAS = np.diag([1.0, 1.0, 2.0, 1.0])  # mm
# the longest side, of 4 mm, has 256 pixels: 64 for 1 mm. From the top the axial slice, of 4 x 3 mm, the coronal one, of
# 4 x 4 mm, and the sagittal one, of 3 x 4 mm and in the middle of the width, with 2 pixels between them
CORONAL, SAGITTAL, HEIGHT, WIDTH, LEFT = 194, 452, 708, 256, 32


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIL"])
def test_slices_by_hand(orientation, channels, tmp_path):
    """One voxel, however the file orders and turns its dimensions; of several channels the first is shown."""
    values = np.zeros(SIZE)
    values[3, 0, 1] = 1  # right, posterior, upper
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(RAS), nibabel.orientations.axcodes2ornt(orientation)
    )
    stored = nibabel.Nifti1Image(values, RAS).as_reoriented(turn)
    mask = np.asarray(stored.dataobj) > 0
    if channels > 1:
        stored = nibabel.Nifti1Image(np.stack([mask, ~mask], axis=-1).astype(float), stored.affine)
    nibabel.save(stored, tmp_path / "volume.nii.gz")
    image, (empty, shown) = picture(str(tmp_path / "volume.nii.gz"), np.zeros_like(mask), mask)

    expected = np.zeros((HEIGHT, WIDTH), bool)  # right at the left, posterior below or at the right, upper above
    expected[128:192, :64] = True
    expected[CORONAL : CORONAL + 128, :64] = True
    expected[SAGITTAL : SAGITTAL + 128, LEFT + 128 : LEFT + 192] = True
    assert np.array_equal(shown, expected)
    assert empty.shape == expected.shape
    assert not empty.any()
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image[160, 8].tolist() == image[CORONAL + 8, 8].tolist() == [255, 255, 255]  # where no edge blurs it
    assert image[8, 200].tolist() == [0, 0, 0]


def test_slices_with_most_of_a_mask():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 3:6, 4] = True
    mask[4, 3:6, 1:8] = True
    assert fullest_slices(mask) == (4, 3, 4)  # the first of several with as much
    assert fullest_slices(np.zeros((9, 8, 7), bool)) == (4, 4, 3)
