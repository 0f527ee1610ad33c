# SPDX-License-Identifier: Apache-2.0
"""What a data set holds: the facts of each pair of image and mask, for the check and for the plan of a training."""

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.utils import ensure_tuple
from PIL import Image
from scipy.ndimage import label
from tqdm.contrib.concurrent import thread_map

from unetv2_monai import InputError
from unetv2_monai.core.images import read_picture
from unetv2_monai.core.listing import is_volume
from unetv2_monai.core.view import View, find_view
from unetv2_monai.data.checks import check_pair, palette_problems, read_mask
from unetv2_monai.data.datalist import divide
from unetv2_monai.data.volumes import open_volume, read_volume

GRID = 16  # the brightness of 17 x 16 fields is compared with that of their neighbours: 256 bits
EXIF_ORIENTATION = 274  # number of the tag

Lists = dict[str, list[dict[str, Any]]]  # the pairs of each split


@dataclass(frozen=True)
class Facts:
    """What is known of one image and its mask, or of a volume and its label."""

    split: str
    image: str
    labels: Sequence[str]
    values: frozenset[int]
    lesion: float  # share of pixels that are not background
    size: tuple[int, ...]
    sha256: str  # of the pixels
    bits: np.ndarray  # by which duplicates are found: unrelated images differ in about half of them
    traits: dict[str, str]  # by kind of finding, a value that should be the same in all pairs
    spacing: tuple[float, ...] = ()  # in mm, in RAS order; empty for images
    contrast: int = 255  # the largest range of a channel, 0 to 255
    turned: bool = False  # by EXIF
    window: tuple[float, float] | None = None  # of to_rgb
    view: View | None = None  # the picture within a dark border
    seen: float = 1.0  # share of the image that the view covers
    cut: float = 0.0  # share of the lesion outside of the view
    regions: tuple[int, ...] = ()  # connected parts of each class, in pixels
    counts: Mapping[int, int] = field(default_factory=dict)  # pixels of each class
    grid: tuple[int, ...] = ()  # size of a volume in RAS order
    marked: np.ndarray | None = None  # up to 1000 values of a volume in the mask
    lowest: float = 0.0  # of all values of a volume

    @property
    def name(self) -> str:
        """Return split and path, as shown to the user."""
        return f"{self.split}: {self.image}"


def examine(split: str, item: dict[str, Any], reading: Mapping[str, Any], in_channels: int | None) -> Facts | str:
    """Return the facts of one pair, or why training refuses it. ``in_channels`` None: those of images are 3."""
    images, labels = ensure_tuple(item["image"]), ensure_tuple(item["label"])
    try:
        check_pair(item, in_channels=in_channels or (None if is_volume(images[0]) else 3), **reading)
    except InputError as error:
        return str(error)
    mask = read_mask(labels, reading)
    about = about_volume(images, mask > 0) if is_volume(images[0]) else about_image(images[0])
    if view := about.get("view"):
        about |= {"seen": mask[view].size / mask.size, "cut": 1 - (mask[view] > 0).sum() / max((mask > 0).sum(), 1)}
    values, counts = np.unique(mask, return_counts=True)
    parts = [np.bincount(label(mask == one, np.ones((3,) * mask.ndim))[0].ravel())[1:] for one in values[values > 0]]
    about["regions"] = tuple(int(size) for sizes in parts for size in sizes)
    about["counts"] = dict(zip(map(int, values), map(int, counts)))
    return Facts(split, images[0], labels, frozenset(about["counts"]), float(np.mean(mask > 0)), **about)


def about_image(path: str) -> dict[str, Any]:
    mode, turned, image = "DICOM", 1, read_picture(Path(path))
    if not path.lower().endswith(".dcm"):
        with Image.open(path) as opened:
            mode, turned = opened.mode, opened.getexif().get(EXIF_ORIENTATION, 1)
    fields = np.asarray(image.convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX)).astype(int)
    return {
        "size": image.size,
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "bits": (fields[:, 1:] > fields[:, :-1]).ravel(),  # whether brightness rises from one field to the next
        "traits": {"several colour modes": mode},
        "turned": turned != 1,
        "contrast": int(np.ptp(np.asarray(image), axis=(0, 1)).max()),
        "window": image.info.get("window"),
        "view": find_view(np.asarray(image)),
    }


def about_volume(paths: Sequence[str], mask: np.ndarray) -> dict[str, Any]:
    affine = open_volume(paths[0]).affine
    values = read_volume(paths[0]) if len(paths) == 1 else np.stack([read_volume(path) for path in paths], axis=-1)
    digest = hashlib.sha256(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    order = np.argsort(nibabel.orientations.io_orientation(affine)[:, 0])
    spacing = nibabel.affines.voxel_sizes(affine)[order]
    return {
        "size": values.shape[:3],
        "sha256": digest.hexdigest(),
        "bits": np.unpackbits(np.frombuffer(digest.digest(), np.uint8)).astype(bool),  # only equal volumes are found
        "traits": {
            "several numbers of channels": str(math.prod(values.shape[3:])),
            "several orientations": "".join(nibabel.aff2axcodes(affine)),
            "several spacings": " x ".join(f"{size:.3g}" for size in spacing) + " mm",
        },
        "spacing": tuple(map(float, spacing)),
        "grid": tuple(values.shape[axis] for axis in order),
        "lowest": float(values.min()),
        "marked": (found := values[mask].ravel())[:: len(found) // 1000 + 1],
    }


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a data set and say how its masks are read."""
    parser.add_argument("--dataset_dir", required=True, help="the data set, as for training")
    parser.add_argument("--out_channels", type=int, default=1, help="as for training (default: 1)")
    parser.add_argument("--in_channels", type=int, help="as for training (default: 3, of volumes any)")
    parser.add_argument("--images_dir", help="folder of the images, where no layout fits")
    parser.add_argument("--masks_dir", default="", help="folder of the masks (default: that of the images)")
    parser.add_argument("--mask_suffix", default="", help="end of the masks' names (default: none)")
    parser.add_argument("--mask_colors", type=json.loads, help='of masks in colours: {"black": 0, "#ff0000": 1}')
    parser.add_argument("--ignore_label", type=int, help="value of unknown pixels in the masks (default: none)")


def reading_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``to_mask``."""
    colors, ignored = arguments.mask_colors, arguments.ignore_label
    return {"out_channels": arguments.out_channels, "colors": colors, "ignore_label": ignored}


def gather(
    arguments: argparse.Namespace, title: str, sections: Sequence[str] | None = None
) -> tuple[Lists, list[Facts], list[str]]:
    """Return the pairs of all splits or of some, the facts of those that training accepts, and all problems."""
    reading = reading_of(arguments)
    folders = {name: getattr(arguments, name) for name in ("images_dir", "masks_dir", "mask_suffix")}
    named = folders if arguments.images_dir is not None else None
    lists, problems = divide(Path(arguments.dataset_dir), sections, folders=named)
    kinds = {is_volume(path): path for items in lists.values() for path in (ensure_tuple(i["image"])[0] for i in items)}
    if len(kinds) > 1:
        raise InputError(f"{kinds[True]} is a volume and {kinds[False]} an image: keep them in folders of their own.")
    pairs = [(split, item, reading, arguments.in_channels) for split, items in lists.items() for item in items]
    found = thread_map(examine, *zip(*pairs), max_workers=8, desc=title, disable=None)
    problems += [result for result in found if isinstance(result, str)]
    if arguments.mask_colors is None:
        every = [item for items in lists.values() for item in items]
        problems += palette_problems(every, arguments.out_channels)
    return lists, [result for result in found if isinstance(result, Facts)], problems
