# SPDX-License-Identifier: Apache-2.0
"""DICOM for the configs: a reader of pictures, the items of a folder, and what was written for them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import PathLike
from monai.data import PILReader
from monai.utils import ensure_tuple
from PIL import Image

from ..core.dicom import SERIES, Found, Source
from ..core.dicom_pixels import read_frame, read_series
from ..core.errors import BrokenFile
from ..core.images import read_channel, to_rgb
from .layouts import Item

# MONAI 1.6.1 tries this reader, which takes a GPU, in every LoadImage
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")

CHANNEL = "channel"  # marks images that stay grey


class PictureReader(PILReader):
    """Read images, and frames of DICOM files, as RGB for ``LoadImaged``; the width comes before the height.

    Of an image of several files, each is a channel.

    ``pixel_spacing`` in the metadata is the width and the height of a pixel in mm, if DICOM states it.
    """

    def __init__(self) -> None:
        super().__init__(converter=_to_rgb_unless_channel)

    def read(self, data: Sequence[PathLike] | PathLike | np.ndarray, **kwargs: Any) -> Any:
        """Open an image, its channels, or the frame at an address."""
        path, *others = [Path(str(each)) for each in ensure_tuple(data)]
        if others:
            channels = [read_channel(each) for each in (path, *others)]
            for channel in channels:
                channel.info[CHANNEL] = True
            return channels
        if path.suffix.lower() != ".dcm":
            return super().read(data, **kwargs)
        values, spacing = read_frame(path)
        image = Image.fromarray(values)
        image.info["spacing"] = spacing
        return image

    def _get_meta_dict(self, img: Any) -> dict[str, Any]:
        spacing = img.info.get("spacing")
        return super()._get_meta_dict(img) | ({"pixel_spacing": np.array(spacing)} if spacing else {})


def _to_rgb_unless_channel(image: Image.Image) -> Image.Image:
    return image if CHANNEL in image.info else to_rgb(image)


def dicom_items(found: Found, volumes: bool, check: bool) -> tuple[list[Item], list[Source], list[str]]:
    """Return frames or volumes of DICOM sources as items, their sources, and what is broken; ``check``: decode all."""
    items: list[Item] = []
    sources = []
    for source in found.sources:
        try:
            if volumes and source.kind != SERIES:
                raise BrokenFile(f"{source.name}: is a {source.kind}, but the network is for volumes")
            for address in source.addresses() if check and not volumes else []:
                read_frame(address)
            if check and volumes:
                read_series(source)
        except BrokenFile as error:
            found.broken.append(str(error))
            continue
        sources.append(source)
        items += [{"image": address} for address in ([source.volume()] if volumes else source.addresses())]
    return items, sources, found.broken


def masks_of(source: Source, folder: Path, one_class: bool) -> list[np.ndarray]:
    """Read the class indices of each frame of a source (height, width) from the masks that were written: one volume, or
    an image for each frame. Return an empty list if one is missing.
    """
    if source.kind == SERIES and (path := folder / f"{source.name}.nii.gz").is_file():
        volume: Any = nibabel.load(path)
        return [*np.asarray(volume.dataobj).astype(np.uint8).transpose(2, 1, 0)]
    paths = [folder / f"{Path(address).stem}.png" for address in source.addresses()]
    if not all(path.is_file() for path in paths):
        return []
    masks = [np.asarray(Image.open(path)) for path in paths]
    return [mask > 0 for mask in masks] if one_class else masks
