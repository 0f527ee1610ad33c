# SPDX-License-Identifier: Apache-2.0
"""NIfTI volumes: read and compared before they are used, and labels written on the grid of their image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import NibabelWriter
from monai.utils import ImageMetaKey

from ..core.errors import InputError

__all__ = ["MAX_VOXELS", "Grid", "LabelWriter", "check_grids", "check_label_values", "read_grid", "read_volume"]

MAX_VOXELS = 2**29  # images have Pillow's own limit, 179 million pixels
MAX_SHIFT = 0.1  # voxels that the grids of an image and its label may be apart


@dataclass(frozen=True)
class Grid:
    """
    Where the voxels of a volume are.

    Args:
        path: the file.
        size: in voxels, without channels.
        affine: from voxel indices to mm, of shape (4, 4).
    """

    path: str
    size: tuple[int, ...]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel along each dimension, in mm."""
        return tuple(map(float, nibabel.affines.voxel_sizes(self.affine)))

    @property
    def orientation(self) -> str:
        """Where the dimensions point to, such as ``"RAS"``: right, anterior, superior."""
        return "".join(nibabel.orientations.aff2axcodes(self.affine))

    def __str__(self) -> str:
        spacing = " x ".join(f"{size:.3g}" for size in self.spacing)
        origin = ", ".join(f"{place:.1f}" for place in self.affine[:3, 3])
        return f"{self.orientation}, {spacing} mm, origin {origin}"


def read_grid(path: str) -> Grid:
    """
    Read the header of a volume.

    Args:
        path: a file that :py:func:`read_volume` accepts.

    Returns:
        Where its voxels are.
    """
    opened: Any = nibabel.load(path)
    return Grid(path, opened.shape[:3], np.asarray(opened.affine))


def read_volume(path: str) -> np.ndarray:
    """
    Decode a volume.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.

    Returns:
        Its values, of shape (dim_0, dim_1, dim_2[, channels]), scaled by the header's slope and intercept.

    Raises:
        InputError: when the file cannot be read, is too large, has fewer than three or more than four dimensions,
            values that are not finite numbers, or voxels without a size.
    """
    try:
        opened: Any = nibabel.load(path)
        voxels = math.prod(opened.shape)
        if voxels > MAX_VOXELS:
            raise InputError(f"{path}: {voxels} voxels, more than the limit of {MAX_VOXELS}")
        values = np.asanyarray(opened.dataobj)
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything
        raise InputError(f"{path}: cannot be read ({error})") from error
    if values.ndim not in (3, 4) or values.size == 0:
        shape = " x ".join(map(str, values.shape))
        raise InputError(f"{path}: holds {shape} values. Save it with three dimensions, or with channels as a fourth.")
    if values.dtype.kind not in "uif":
        raise InputError(f"{path}: holds colours or complex numbers. Save one real number for each voxel.")
    if not np.isfinite(opened.affine).all() or abs(np.linalg.det(opened.affine)) < 1e-9:
        raise InputError(f"{path}: its affine gives voxels no size. Set spacing and orientation in its header.")
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        raise InputError(
            f"{path}: {finite.size - np.count_nonzero(finite)} values are NaN or infinite. Replace them, for example "
            "by the background's value."
        )
    return values


def check_grids(image: Grid, label: Grid) -> None:
    """
    Compare where an image and its label are.

    Args:
        image, label: of the same size.

    Raises:
        InputError: when the corners of their grids are more than a tenth of a voxel apart.
    """
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in image.size))]).T
    apart = np.abs(np.linalg.solve(image.affine, label.affine @ corners) - corners).max()
    if apart > MAX_SHIFT:
        raise InputError(
            f"{label.path}: lies elsewhere than {Path(image.path).name}, by up to {apart:.1f} voxels (label {label}; "
            f"image {image}). Copy the image's affine to the label if their voxels match, else resample the label to "
            "the image's grid."
        )


def check_label_values(path: str, values: np.ndarray, out_channels: int) -> None:
    """
    Refuse values that are no class.

    Args:
        path: of the label volume.
        values: its values.
        out_channels: channels of the network; 1 allows 0 and 1, more allow 0 to ``out_channels - 1``.

    Raises:
        InputError: when there are other values.
    """
    highest = max(out_channels, 2) - 1
    if np.isin(values, range(highest + 1)).all():
        return
    found = np.unique(values)
    advice = "Map them, or set --out_channels to the number of classes, background included."
    if np.abs(found - np.round(found)).max() > 1e-3:
        advice = "Classes are integers: resample labels by nearest neighbour, not by interpolation."
    elif (found != np.round(found)).any():
        advice = "They differ from integers by rounding: save them as uint8, without scl_slope and scl_inter."
    shown = " ".join([*(f"{value:.4g}" for value in found[:8]), *["..."][: len(found) > 8]])
    raise InputError(f"{path}: label values [{shown}], expected 0 to {highest}. {advice}")


class LabelWriter(NibabelWriter):
    """
    Write labels as NIfTI on the grid of their image: its shape without channels, and from its header sform, qform,
    their codes and the units.

    MONAI's own writer drops trailing dimensions of size 1, so that a volume of one slice becomes an image, and writes
    qform as sform. For ``SaveImaged``, which knows the file of the image.

    Args:
        output_dtype: type of the values in the file. Defaults to ``numpy.uint8``.
        kwargs: of :py:class:`monai.data.NibabelWriter`.
    """

    def __init__(self, output_dtype: Any = np.uint8, **kwargs: Any) -> None:
        super().__init__(output_dtype, **kwargs)
        self.image = ""

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """
        Args:
            data_array: of shape (1, dim_0, dim_1, dim_2).
            channel_dim: the dimension of channels. Defaults to 0.
            squeeze_end_dims: has no effect: the channel alone is left out.
            kwargs: of :py:class:`monai.data.NibabelWriter`.
        """
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        self.data_obj = self.data_obj[..., 0]

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """
        Args:
            meta_dict: of the image, with the path of its file.
            resample: whether to bring the label to the image's original grid. Defaults to True.
            options: of :py:class:`monai.data.NibabelWriter`.
        """
        super().set_metadata(meta_dict, resample, **options)
        self.image = str((meta_dict or {})[ImageMetaKey.FILENAME_OR_OBJ])

    def write(self, filename: Any, verbose: bool = False, **obj_kwargs: Any) -> None:
        """
        Args:
            filename: to write to.
            verbose: has no effect.
            obj_kwargs: of ``nibabel.Nifti1Image``.
        """
        image: Any = nibabel.load(self.image)
        label = self.create_backend_obj(self.data_obj, self.affine, self.output_dtype, **obj_kwargs)
        label.header["xyzt_units"] = image.header["xyzt_units"]
        label.set_sform(*image.get_sform(coded=True))
        try:
            label.set_qform(*image.get_qform(coded=True))
        except ValueError:  # a quaternion that is none; the sform says where the voxels are
            label.set_qform(None, 0)
        nibabel.save(label, filename)
