# SPDX-License-Identifier: Apache-2.0
"""Pair images with the probabilities of an ensemble, from which one network learns."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from monai.utils import ensure_tuple
from PIL import Image

from ..core.errors import InputError
from ..core.listing import is_volume, stem, unique_stems
from .checks import check_each, check_pair, list_problems
from .image_list import list_images
from .layouts import Item

logger = logging.getLogger(__name__)


def soft_items(
    training: Sequence[Item],
    validation: Sequence[Item],
    soft_dir: str | None,
    more_images: str | None = None,
    out_channels: int = 1,
    check: bool = True,
) -> list[Item]:
    """Return the training images, each with the file of its probabilities in place of its mask, and further images.

    ``training`` and ``validation`` are pairs of :py:func:`load_datalist`; ``soft_dir`` has a 16-bit ``NAME.png`` of
    each image, in which 65535 is probability 1; ``more_images`` needs no masks. ``check``: decode every file first.

    Returns:
        A list of ``{"image": path, "label": path, "path": path}``.

    Raises:
        InputError: when there is no ``soft_dir`` or more than one structure, when an image has no probabilities of its
            size, when two images have one name, or when a further image has the name of one of validation.
    """
    if not soft_dir or not Path(soft_dir).is_dir():
        made_by = "unetv2 segment DIR --with ensemble --save_probabilities true"
        raise InputError(f"--soft_dir {soft_dir} is no folder. Name the folder probabilities/ that `{made_by}` writes.")
    images, held_out = ([Path(ensure_tuple(pair["image"])[0]) for pair in pairs] for pairs in (training, validation))
    if out_channels != 1 or any(map(is_volume, images)):
        raise InputError(f"distil.yaml is for images of one structure, not for volumes or out_channels {out_channels}.")
    more = [Path(item["image"]) for item in list_images(more_images, check)] if more_images else []
    problems = unique_stems([*images, *more])[1]
    names = {*map(stem, held_out)}
    problems += [f"{path}: has the name of an image of validation" for path in more if stem(path) in names]
    items = [{"image": str(path), "label": f"{soft_dir}/{stem(path)}.png", "path": str(path)} for path in images + more]
    problems = problems or [text for text in check_each(items, partial(check_soft, decode=check)) if text]
    if problems:
        raise InputError(list_problems(Path(soft_dir), problems))
    logger.info(f"{soft_dir}: probabilities of {len(images)} training images and of {len(more)} further ones.")
    return items


def check_soft(item: Item, decode: bool) -> None:
    """Raise InputError if the probabilities of an image are missing, not of 16 bits, or not of its size."""
    if not Path(item["label"]).is_file():
        raise InputError(f"{item['image']}: has no {item['label']}")
    if decode:
        check_pair(item, out_channels=None)
    with Image.open(item["label"]) as opened:
        if not opened.mode.startswith("I;16"):
            raise InputError(f"{item['label']}: holds no probabilities, which have 16 bits; its mode is {opened.mode}")
