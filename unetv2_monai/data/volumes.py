# SPDX-License-Identifier: Apache-2.0
"""Read and check volumes, and write labels on the grid of their image."""

import contextlib
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ITKReader, NibabelReader, NibabelWriter
from monai.data.utils import correct_nifti_header_if_necessary
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, OptionalImportError, ensure_tuple

from ..core.dicom import located, series_of
from ..core.dicom_pixels import read_series
from ..core.errors import InputError
from ..core.listing import ITK_ENDINGS, stem
from ..core.masks import refuse_as_ignored

MAX_VOXELS = 2**29  # images have Pillow's own limit, 179 million pixels
MAX_SHIFT = 0.1  # in voxels: how far apart the grids of an image and its label may be


def open_volume(path: str) -> Any:
    """Open a volume with the affine that MONAI's reader takes, from its sform or qform; no voxel of NIfTI is read. The
    address of a series of DICOM stands for all its slices.

    Raises:
        InputError: when the file cannot be read, or when ITK is not installed, which reads MetaImage and NRRD.
    """
    if located(path):
        series = series_of([path])
        return nibabel.Nifti1Image(read_series(series), series.affine)
    try:
        if path.lower().endswith(ITK_ENDINGS):
            reader = ITKReader()
            values, meta = reader.get_data(reader.read(path))
            return nibabel.Nifti1Image(values, meta["affine"], dtype=values.dtype)
        return correct_nifti_header_if_necessary(nibabel.load(path))
    except OptionalImportError as error:
        raise InputError(f"{path}: ITK reads this format, and is not installed: pip install itk.") from error
    except Exception as error:  # decoders raise almost anything
        raise InputError(f"{path}: cannot be read ({error})") from error


def read_volume(path: str) -> np.ndarray:
    """Decode a volume, scale it as its header states, and return it in the shape (dim_0, dim_1, dim_2[, channels]).

    Raises:
        InputError: when the file cannot be read or is too large, when it has fewer than three or more than four
            dimensions, when a value is not a finite real number, or when the affine gives voxels no size.
    """
    opened = open_volume(path)
    voxels = math.prod(opened.shape)
    if voxels > MAX_VOXELS:
        raise InputError(f"{path}: {voxels} voxels, more than the limit of {MAX_VOXELS}")
    try:
        values = np.asanyarray(opened.dataobj)
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
        count = finite.size - np.count_nonzero(finite)
        raise InputError(f"{path}: {count} values are NaN or infinite. Replace them, such as by the background's.")
    return values


def check_grids(image: str, label: str) -> None:
    """Refuse an image and a label of one size if corners of their grids are more than a tenth of a voxel apart.

    The header of a registered image may state two grids, in sform and qform. Tools take one or the other for labels
    that are drawn on it, so a label may lie on either.
    """
    opened, drawn = open_volume(image), open_volume(label)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in opened.shape[:3]))))
    grids = [opened.affine, *(form for form in _forms(image) if abs(np.linalg.det(form)) > 1e-9)]
    to_image = (np.linalg.solve(grid, drawn.affine) for grid in grids)
    apart = min(np.abs(nibabel.affines.apply_affine(way, corners) - corners).max() for way in to_image)
    if apart > MAX_SHIFT:
        image_place, label_place = (_place(each.affine) for each in (opened, drawn))
        raise InputError(
            f"{label}: lies elsewhere than {Path(image).name}, by up to {apart:.1f} voxels (label {label_place}; "
            f"image {image_place}). Copy the image's affine to the label if their voxels match, else resample the "
            "label to the image's grid."
        )


def _forms(path: str) -> list[np.ndarray]:
    """Return the sform and the qform of a file's header, as far as it has them."""
    header: Any = None if path.lower().endswith(ITK_ENDINGS) else nibabel.load(path).header
    if not isinstance(header, nibabel.Nifti1Header):
        return []
    forms = [header.get_sform(coded=True)]
    with contextlib.suppress(ValueError):  # the quaternion is invalid
        forms.append(header.get_qform(coded=True))
    return [affine for affine, code in forms if code > 0]


class VolumeReader(NibabelReader):
    """Read volumes as :py:func:`open_volume` does, for ``LoadImaged``."""

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Open a file, or the files of the channels."""
        self.filenames = ensure_tuple(data)
        if located(self.filenames[0]):
            series = series_of([*map(str, self.filenames)])
            return nibabel.Nifti1Image(read_series(series), series.affine)
        opened = [open_volume(str(path)) for path in self.filenames]
        return opened if len(opened) > 1 else opened[0]


class OnImageGridd(MapTransform):
    """Give labels the affine of their image, since they may lie on the other of its two grids (sform and qform).

    Args:
        keys: keys of the labels, MetaTensors of a file.
        key_image: key of the image. Defaults to "image".

    Raises:
        InputError: when a label lies on neither grid.
    """

    def __init__(self, keys: KeysCollection, key_image: str = "image") -> None:
        super().__init__(keys)
        self.key_image = key_image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with labels on the grid of their image."""
        found, image = dict(data), data[self.key_image]
        for key in self.key_iterator(found):
            check_grids(*(str(each.meta[ImageMetaKey.FILENAME_OR_OBJ]) for each in (image, found[key])))
            found[key].affine = image.affine
        return found


def _place(affine: np.ndarray) -> str:
    """Describe the orientation, the voxel size and the origin of an affine."""
    spacing = " x ".join(f"{size:.3g}" for size in nibabel.affines.voxel_sizes(affine))
    origin = ", ".join(f"{place:.1f}" for place in affine[:3, 3])
    return f"{''.join(nibabel.aff2axcodes(affine))}, {spacing} mm, origin {origin}"


def check_label_values(path: str, values: np.ndarray, out_channels: int, ignore_label: int | None = None) -> None:
    """Raise InputError for values other than ``ignore_label`` and 0 to ``out_channels - 1``, of one channel 0 and 1."""
    refuse_as_ignored(ignore_label, out_channels, True)
    highest = max(out_channels, 2) - 1
    accepted = [*range(highest + 1), *([] if ignore_label is None else [ignore_label])]
    if np.isin(values, accepted).all():
        return
    found = np.unique(values)
    advice = "Map them, or set out_channels to the number of classes, background included."
    if np.abs(found - np.round(found)).max() > 1e-3:
        advice = "Classes are integers: resample labels by nearest neighbour, not by interpolation."
    elif (found != np.round(found)).any():
        advice = "They differ from integers by rounding: save them as uint8, without scl_slope and scl_inter."
    shown = " ".join([*(f"{value:.4g}" for value in found[:8]), *["..."][: len(found) > 8]])
    raise InputError(f"{path}: label values [{shown}], expected 0 to {highest}. {advice}")


class LabelWriter(NibabelWriter):
    """Write labels as NIfTI on the grid of their image, for ``SaveImaged``.

    A label has the shape of its image without channels. Probabilities of several classes have them last. sform, qform,
    their codes and the units come from the image's header. MONAI's own writer drops trailing dimensions of size 1, so a
    volume of one slice becomes an image. It also writes a qform as sform.

    The arguments are those of :py:class:`monai.data.NibabelWriter`; values are uint8 by default.
    """

    def __init__(self, output_dtype: Any = np.uint8, **kwargs: Any) -> None:
        super().__init__(output_dtype, **kwargs)
        self.image = ""

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Take an array (channels, dim_0, dim_1, dim_2), and drop a single channel but no other dimension."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        self.data_obj = self.data_obj[..., 0] if self.data_obj.shape[-1] == 1 else self.data_obj

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """Take the metadata of the image, including the path of its file."""
        super().set_metadata(meta_dict, resample, **options)
        self.image = str((meta_dict or {})[ImageMetaKey.FILENAME_OR_OBJ])

    def write(self, filename: Any, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the file."""
        image: Any = None  # of DICOM, the label's own affine is that of the series
        if not located(self.image):
            image = open_volume(self.image) if self.image.lower().endswith(ITK_ENDINGS) else nibabel.load(self.image)
        label = self.create_backend_obj(self.data_obj, self.affine, self.output_dtype, **obj_kwargs)
        if isinstance(image, nibabel.Nifti1Image):
            label.header["xyzt_units"] = image.header["xyzt_units"]
            label.set_sform(*image.get_sform(coded=True))
            try:
                label.set_qform(*image.get_qform(coded=True))
            except ValueError:  # the quaternion is invalid; the sform gives the positions
                label.set_qform(None, 0)
        else:  # FreeSurfer's or DICOM's, in mm of the scanner
            label.header.set_xyzt_units("mm")
            affine = self.affine if image is None else image.affine
            label.set_sform(affine, 1)
            label.set_qform(affine, 1)
        path, source = Path(filename), Path(self.image)
        if source.suffix.lower() == ".gz" != source.suffix:  # MONAI takes away .gz alone
            path = path.with_name(path.name.replace(source.stem, stem(source)))
        nibabel.save(label, path)
