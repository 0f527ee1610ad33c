# SPDX-License-Identifier: Apache-2.0
"""DICOM for the configs: readers of pictures and volumes, and masks as DICOM SEG."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import PathLike
from monai.data import PILReader
from monai.utils import ensure_tuple
from PIL import Image

from ..core.dicom import PHOTOGRAPH, SERIES, Source, find_sources
from ..core.dicom_pixels import check_source, read_frame, read_series
from ..core.dicom_seg import Segments, read_codes, write_seg
from ..core.errors import BrokenFile
from ..core.images import to_rgb
from .layouts import Item


class PictureReader(PILReader):
    """
    Read images, and frames of DICOM files, as RGB for ``LoadImaged``; the width comes before the height.

    ``pixel_spacing`` in the metadata is the width and the height of a pixel in mm, if DICOM states it.
    """

    def __init__(self) -> None:
        super().__init__(converter=to_rgb)

    def read(self, data: Sequence[PathLike] | PathLike | np.ndarray, **kwargs: Any) -> Any:
        """Open an image, or the frame at an address."""
        path = Path(str(ensure_tuple(data)[0]))
        if path.suffix.lower() != ".dcm":
            return super().read(data, **kwargs)
        values, spacing = read_frame(path)
        image = Image.fromarray(values)
        image.info["spacing"] = spacing
        return image

    def _get_meta_dict(self, img: Any) -> dict[str, Any]:
        spacing = img.info.get("spacing")
        return super()._get_meta_dict(img) | ({"pixel_spacing": np.array(spacing)} if spacing else {})


def dicom_items(root: Path, volumes: bool, check: bool) -> tuple[list[Item], list[Source], list[str]]:
    """
    Find the frames, or the volumes, of a DICOM folder as items; also return their sources, and sentences of what cannot
    be used. ``check``: decode everything.
    """
    found = find_sources(root)
    items: list[Item] = []
    sources, broken = [], found.broken
    for source in found.sources:
        try:
            if volumes and source.kind != SERIES:
                raise BrokenFile(f"{source.name}: is a {source.kind}, but the network is for volumes")
            if check and volumes:
                read_series(source)
            elif check:
                check_source(source)
        except BrokenFile as error:
            broken.append(str(error))
            continue
        sources.append(source)
        each = [source.volume()] if volumes else source.addresses()
        items += [{"image": address} for address in each]
    return items, sources, broken


class SegFiles:
    """
    Write the masks of DICOM images as ``seg/NAME.dcm`` beside them.

    Args:
        names: a segment of ``segments.yaml`` for each class without background.
        classes: number of these classes.
        weights: the file of weights, whose SHA-256 is written.
        codes: a file of one's own with the codes of segments. Defaults to None.
        labelmap: write LABELMAP instead of BINARY. Defaults to False.

    Raises:
        InputError: when a name is unknown, or their number is not that of the classes.
    """

    def __init__(
        self, names: Sequence[str], classes: int, weights: str, codes: str | None = None, labelmap: bool = False
    ) -> None:
        self.weights, self.codes, self.labelmap = Path(weights), read_codes(names, classes, codes), labelmap

    def write(self, images: Any, output_dir: str) -> None:
        """Write those of an ``ImageList``, from the masks in a folder; its ``broken`` names what cannot be written."""
        folder = Path(output_dir)
        segments = Segments(self.codes, hashlib.sha256(self.weights.read_bytes()).hexdigest(), self.labelmap)
        for source in images.sources:
            try:
                write_seg(folder / "seg" / f"{source.name}.dcm", source, self._masks(source, folder), segments)
            except (BrokenFile, FileNotFoundError) as error:
                images.broken.append(str(error))

    def _masks(self, source: Source, folder: Path) -> list[np.ndarray]:
        """Read the class indices of each frame (height, width)."""
        volume = folder / f"{source.name}.nii.gz"
        if source.kind != PHOTOGRAPH and volume.is_file():
            return [*np.asarray(nibabel.load(volume).dataobj).astype(np.uint8).transpose(2, 1, 0)]
        masks = [np.asarray(Image.open(folder / f"{Path(address).stem}.png")) for address in source.addresses()]
        return [mask > 0 for mask in masks] if len(self.codes) == 1 else masks
