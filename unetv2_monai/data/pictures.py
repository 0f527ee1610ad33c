# SPDX-License-Identifier: Apache-2.0
"""Draw images, or three orthogonal slices of volumes, with their masks, for overlays and reports."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy
from PIL import Image

from ..core.dicom_pixels import stretched
from ..core.images import read_image
from ..core.listing import is_volume, stem
from ..core.overlay import PREDICTION_COLOR, outlined, save_overlay
from .volumes import open_volume

GAP = 2  # pixels
DETAIL = 256  # pixels along the longest side, so that outlines are thin


def picture(path: str, *masks: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an image as RGB, or three slices of a volume on one black sheet, and the masks in the same form. The
    slices are axial, coronal and sagittal, from top to bottom. Masks are boolean. Their axes are rows and columns, or
    those of the volume's file.

    Slices are shown as radiologists see them. At the top is anterior (axial slice) or superior (the others), at the
    left the patient's right or, in the sagittal slice, anterior. A pixel has the same size in mm in all slices: the
    shortest side of a voxel, divided by a whole number in small volumes. The slices are those with most of the first
    mask that is not empty. Only the first channel is shown.
    """
    if not is_volume(path):
        return read_image(Path(path)), list(masks)
    volume = open_volume(path)
    values = np.asanyarray(volume.dataobj).astype(np.float32)
    values = values[..., 0] if values.ndim == 4 else values
    grey = stretched(values)[0].astype(np.uint8)
    orientation = nibabel.orientations.io_orientation(volume.affine)
    turned = [nibabel.orientations.apply_orientation(array, orientation) for array in (grey, *masks)]
    grey, masks = turned[0], tuple(turned[1:])
    place = fullest_slices(next((mask for mask in masks if mask.any()), np.zeros_like(grey)))
    spacing = nibabel.affines.voxel_sizes(volume.affine)[np.argsort(orientation[:, 0])]
    scale = spacing / spacing.min()
    scale *= max(1, int(DETAIL / (scale * grey.shape).max()))
    rgb = np.repeat(_sheet(grey, place, scale, Image.Resampling.BILINEAR)[..., None], 3, axis=2)
    return rgb, [_sheet(mask.astype(np.uint8), place, scale, Image.Resampling.NEAREST) > 0 for mask in masks]


class SaveOverlayd(MapTransform):
    """Write ``NAME.jpg``: the image, or three slices of a volume, with the outline of its mask and a tint inside.
    segment.py draws the same overlay.

    Args:
        keys: keys of masks of shape (1, width, height), (width, height) or (1, dim_0, dim_1, dim_2). Their metadata
            must name the image file.
        output_dir: folder of the overlays.
        opacity: opacity of the tint, 0 to 1. Defaults to 0.3.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, opacity: float = 0.3) -> None:
        super().__init__(keys)
        self.folder, self.opacity = Path(output_dir), opacity

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            path = Path(out[key].meta["filename_or_obj"])  # type: ignore[attr-defined]
            mask = convert_to_numpy(out[key]) > 0
            mask = mask[0] if mask.ndim > 2 else mask
            image, (mask,) = picture(str(path), mask.T if mask.ndim == 2 else mask)
            save_overlay(outlined(image, mask, PREDICTION_COLOR, self.opacity), self.folder / f"{stem(path)}.jpg")
        return out


def fullest_slices(mask: np.ndarray) -> tuple[int, ...]:
    """Return for each dimension the index with most of the mask, or the middle if the mask is empty."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    return tuple(int(mask.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))


def _sheet(values: np.ndarray, place: Sequence[int], scale: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    """Draw three slices of a volume whose axes run from left to right, back to front, and bottom to top."""
    panels = []
    for axis in (2, 1, 0):
        across, up = sorted({0, 1, 2} - {axis})
        panel = Image.fromarray(np.ascontiguousarray(values.take(place[axis], axis)[::-1, ::-1].T))
        panels.append(panel.resize((round(panel.width * scale[across]), round(panel.height * scale[up])), resampling))
    width = max(panel.width for panel in panels)
    sheet = Image.new("L", (width, sum(panel.height + GAP for panel in panels) - GAP))
    top = 0
    for panel in panels:
        sheet.paste(panel, ((width - panel.width) // 2, top))
        top += panel.height + GAP
    return np.asarray(sheet)
