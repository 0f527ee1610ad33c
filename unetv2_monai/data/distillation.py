# SPDX-License-Identifier: Apache-2.0
"""Pair images with the probabilities of an ensemble, from which one network learns."""

from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple
from PIL import Image

from ..core.errors import InputError
from ..core.listing import is_volume, stem, unique_stems
from .checks import check_each, image_size, list_problems, mask_size
from .image_list import list_images
from .layouts import Item


def soft_items(
    training: Sequence[Item],
    validation: Sequence[Item],
    soft_dir: str | None,
    more_images: str | None = None,
    out_channels: int = 1,
    check: bool = True,
) -> list[Item]:
    """
    Return the training images, each with the file of its probabilities in place of its mask, and further images.

    Args:
        training, validation: pairs of :py:func:`load_datalist`.
        soft_dir: folder with a 16-bit ``NAME.png`` for each image, in which 65535 is probability 1.
        more_images: folder of further images, which need no mask. Defaults to None.
        out_channels: output channels of the network. Defaults to 1.
        check: decode every file first, and compare the sizes of image and probabilities. Defaults to True.

    Returns:
        A list of ``{"image": path, "label": path, "path": path}``.

    Raises:
        InputError: when there is no ``soft_dir`` or more than one structure, when an image has no probabilities of its
            size, when two images have one name, or when a further image has the name of one of validation.
    """
    if not soft_dir or not Path(soft_dir).is_dir():
        raise InputError(
            f"--soft_dir {soft_dir} is no folder. Name the folder probabilities/ that `unetv2 segment DIR --with "
            "ensemble --save_probabilities true` writes."
        )
    images = [ensure_tuple(pair["image"])[0] for pair in training]
    if out_channels != 1 or any(is_volume(path) for path in images):
        raise InputError(
            f"distil.yaml is for one structure (out_channels 1) in images, not for {out_channels} channels or volumes: "
            "a PNG holds one probability."
        )
    more = list_images(more_images, check=check) if more_images else []
    further = [ensure_tuple(item["image"])[0] for item in more]
    problems = unique_stems(map(Path, images + further))[1]
    held_out = {stem(Path(ensure_tuple(pair["image"])[0])) for pair in validation}
    problems += [f"{path}: has the name of an image of validation" for path in further if stem(Path(path)) in held_out]
    items = [{"image": path, "label": f"{soft_dir}/{stem(Path(path))}.png", "path": path} for path in images + further]
    if problems:
        raise InputError(list_problems(Path(more_images or soft_dir), problems))
    if problems := [text for text in check_each(items, check_soft if check else exists) if text]:
        raise InputError(list_problems(Path(soft_dir), problems))
    return items


def exists(item: Item) -> None:
    """Raise InputError if the probabilities of an image are missing."""
    if not Path(item["label"]).is_file():
        raise InputError(f"{item['image']}: has no {item['label']}")


def check_soft(item: Item) -> None:
    """Raise InputError if the probabilities of an image are missing, not of 16 bits, or not of its size."""
    exists(item)
    image, soft = image_size(item["image"]), mask_size(item["label"])
    with Image.open(item["label"]) as opened:
        if not opened.mode.startswith("I;16"):
            raise InputError(f"{item['label']}: holds no probabilities, which have 16 bits; its mode is {opened.mode}")
    if image != soft:
        by, image_by = (" x ".join(map(str, size)) for size in (soft, image))
        raise InputError(f"{item['label']}: probabilities of {by}, but {Path(item['image']).name} is {image_by}")
