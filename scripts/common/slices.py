# SPDX-License-Identifier: Apache-2.0
"""Volumes as images: three orthogonal slices, one below the other."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel
import numpy as np
from PIL import Image

__all__ = ["Slices"]

GAP = 2  # pixels
DETAIL = 256  # pixels along the longest side, so that outlines are thin
DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles of the intensities that become black and white


@dataclass(frozen=True)
class Slices:
    """
    Which slices of a volume are shown: an axial, a coronal and a sagittal one, from the top.

    They are seen as radiologists see them: anterior or superior above, the patient's right, or anterior, at the left. A
    pixel has one size in mm in all three: the shortest side of a voxel, or a whole fraction of it in small volumes.

    Args:
        affine: of the volume, from voxel indices to mm, of shape (4, 4).
        place: index of the sagittal, the coronal and the axial slice, once dimensions are from left to right, back to
            front and below to above.
    """

    affine: np.ndarray
    place: tuple[int, ...]

    @classmethod
    def through(cls, mask: np.ndarray, affine: np.ndarray) -> Slices:
        """
        The slices with most of a mask, or those in the middle where it is empty.

        Args:
            mask: boolean, of shape (dim_0, dim_1, dim_2).
            affine: of the volume.
        """
        turned = _turned(mask, affine)
        counts = [turned.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        middle = tuple(size // 2 for size in turned.shape)
        return cls(affine, tuple(int(count.argmax()) for count in counts) if turned.any() else middle)

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """
        Args:
            mask: boolean, of shape (dim_0, dim_1, dim_2).

        Returns:
            Its slices, of shape (height, width).
        """
        return self._stacked(mask.astype(np.uint8), Image.Resampling.NEAREST) > 0

    def of_image(self, values: np.ndarray) -> np.ndarray:
        """
        Args:
            values: of shape (dim_0, dim_1, dim_2[, channels]); of several channels the first is shown.

        Returns:
            Its slices in grey, of shape (height, width, 3), 0 to 255.
        """
        values = (values[..., 0] if values.ndim == 4 else values).astype(np.float32)
        low, high = np.percentile(values, (DARKEST, BRIGHTEST))
        grey = (255 * (values - low) / max(high - low, 1e-9)).clip(0, 255).astype(np.uint8)
        return np.repeat(self._stacked(grey, Image.Resampling.BILINEAR)[..., None], 3, axis=2)

    def _stacked(self, values: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        """All three on a black ground, each in the middle of the width."""
        turned = _turned(values, self.affine)
        spacing = nibabel.affines.voxel_sizes(self.affine)[np.argsort(_orientation(self.affine)[:, 0])]
        scale = spacing / spacing.min()
        scale *= max(1, int(DETAIL / (scale * turned.shape).max()))
        panels = []
        for axis in (2, 1, 0):
            across, up = sorted({0, 1, 2} - {axis})
            plane = Image.fromarray(np.ascontiguousarray(turned.take(self.place[axis], axis)[::-1, ::-1].T))
            size = round(plane.width * scale[across]), round(plane.height * scale[up])
            panels.append(np.asarray(plane.resize(size, resampling)))
        width = max(panel.shape[1] for panel in panels)
        sheet = np.zeros((sum(len(panel) + GAP for panel in panels) - GAP, width), np.uint8)
        top = 0
        for panel in panels:
            left = (width - panel.shape[1]) // 2
            sheet[top : top + len(panel), left : left + panel.shape[1]] = panel
            top += len(panel) + GAP
        return sheet


def _orientation(affine: np.ndarray) -> np.ndarray:
    return nibabel.orientations.io_orientation(affine)


def _turned(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """From left to right, back to front, below to above."""
    return nibabel.orientations.apply_orientation(values, _orientation(affine))
