# SPDX-License-Identifier: Apache-2.0
"""Slices of volumes: where they are, which way up, and in which proportions."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from common.slices import Slices

SIZE = (4, 3, 2)  # left to right, back to front, below to above
RAS = np.diag([1.0, 1.0, 2.0, 1.0])  # mm
# the longest side, of 4 mm, has 256 pixels: 64 for 1 mm. From the top the axial slice, of 4 x 3 mm, the coronal one, of
# 4 x 4 mm, and the sagittal one, of 3 x 4 mm and in the middle of the width, with 2 pixels between them
CORONAL, SAGITTAL, HEIGHT, WIDTH, LEFT = 194, 452, 708, 256, 32


def one_voxel() -> np.ndarray:
    """The right, posterior, upper corner."""
    values = np.zeros(SIZE)
    values[3, 0, 1] = 1
    return values


def boxes() -> np.ndarray:
    """Where that voxel is seen: right at the left, posterior below or at the right, the upper slice above."""
    seen = np.zeros((HEIGHT, WIDTH), bool)
    seen[128:192, :64] = True
    seen[CORONAL : CORONAL + 128, :64] = True
    seen[SAGITTAL : SAGITTAL + 128, LEFT + 128 : LEFT + 192] = True
    return seen


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIL"])
def test_slices_by_hand(orientation):
    """The same, however the file orders and turns its dimensions."""
    stored = nibabel.Nifti1Image(one_voxel(), RAS)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(RAS), nibabel.orientations.axcodes2ornt(orientation)
    )
    stored = stored.as_reoriented(turn)
    values = np.asarray(stored.dataobj)
    slices = Slices.through(values > 0, stored.affine)
    assert slices.place == (3, 0, 1)
    assert np.array_equal(slices.of_mask(values > 0), boxes())
    image = slices.of_image(values)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image[160, 8].tolist() == image[CORONAL + 8, 8].tolist() == [255, 255, 255]  # where no edge blurs it
    assert image[8, 200].tolist() == [0, 0, 0]


def test_slices_with_most_of_a_mask():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 3:6, 4] = True
    mask[4, 3:6, 1:8] = True
    assert Slices.through(mask, np.eye(4)).place == (4, 3, 4)  # the first of several with as much
    assert Slices.through(np.zeros((9, 8, 7), bool), np.eye(4)).place == (4, 4, 3)


def test_first_of_several_channels():
    channels = np.stack([one_voxel(), np.zeros(SIZE)], axis=-1)
    slices = Slices(RAS, (3, 0, 1))
    assert np.array_equal(slices.of_image(channels), slices.of_image(one_voxel()))
