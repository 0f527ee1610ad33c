# SPDX-License-Identifier: Apache-2.0
"""From the folders of a published data set to ``images/``, ``masks/`` and ``datalist.json``."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError, to_mask, to_rgb
from unetv2_monai.core.files import write_atomic
from unetv2_monai.core.listing import IMAGE_ENDINGS

__all__ = ["Entry", "Origin", "Pair", "find_folder", "hold_out", "match_pairs", "store_all", "write_datalist"]

Entry = dict[str, str]
"""One pair in ``datalist.json``."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as published."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Origin:
    """
    Args:
        dataset: name of the data set.
        source: where it is published.
        licence: terms of its use.
    """

    dataset: str
    source: str
    licence: str


def find_folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of ``names`` that is a folder below ``root``; ``what`` it holds is for the error."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root}: no folder of {what}; looked for {', '.join(names)}.")


def match_pairs(images: Path, masks: Path, image_stem: Callable[[str], str]) -> list[Pair]:
    """
    Pair all images of a folder with their masks.

    Args:
        images, masks: the folders.
        image_stem: from the name of a mask to the name of its image, both without their endings.

    Returns:
        The pairs in the order of their names, numbers by their value.

    Raises:
        InputError: names all images without a mask and all masks without an image.
    """
    found = {
        path.stem: path
        for path in sorted(images.iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS and not path.stem.endswith("_superpixels")  # ISIC 2017 mixes them in
    }
    labels = {image_stem(path.stem): path for path in sorted(masks.iterdir()) if path.suffix.lower() in IMAGE_ENDINGS}
    alone = [f"{found[name]}: no mask in {masks}" for name in found.keys() - labels.keys()]
    alone += [f"{labels[name]}: no image in {images}" for name in labels.keys() - found.keys()]
    if alone or not found:
        raise InputError("\n".join(sorted(alone)) or f"{images} holds no image ({', '.join(IMAGE_ENDINGS)}).")
    return [Pair(name, found[name], labels[name]) for name in sorted(found, key=lambda name: (len(name), name))]


def store(pair: Pair, output_dir: Path) -> Entry:
    """
    Put one pair into ``output_dir``: the image unchanged, the mask as PNG with values 0 and 255.

    A file that is there and has the same content is left alone; others are written atomically.

    Returns:
        Paths and SHA-256 of both files.

    Raises:
        InputError: when image and mask differ in size, or the mask has other values.
    """
    with Image.open(pair.image) as opened:
        size = to_rgb(opened).size
    with Image.open(pair.mask) as opened:
        clean = opened.format == "PNG" and opened.mode == "L" and opened.getextrema()[1] in (0, 255)
        label = to_mask(opened)
    if label.size != size:
        raise InputError(
            f"{pair.mask}: mask of {label.width} x {label.height}, but {pair.image.name} is {size[0]} x {size[1]}"
        )
    if clean:
        mask = pair.mask.read_bytes()
    else:
        buffer = io.BytesIO()
        label.point(lambda value: 255 * value).save(buffer, "PNG")
        mask = buffer.getvalue()
    entry = {}
    for key, name, content in (
        ("image", f"images/{pair.name}{pair.image.suffix.lower()}", pair.image.read_bytes()),
        ("label", f"masks/{pair.name}.png", mask),
    ):
        target = output_dir / name
        if not target.is_file() or target.read_bytes() != content:
            write_atomic(target, content)
        entry[key] = name
        entry[f"{key}_sha256"] = hashlib.sha256(content).hexdigest()
    return entry


def store_all(pairs: Sequence[Pair], output_dir: Path, origin: Origin) -> list[Entry]:
    """
    Put the pairs of one data set into ``output_dir``.

    Returns:
        Their entries in ``datalist.json``, with the origin.

    Raises:
        InputError: when the disk has no room for them; or, after all pairs, with the problems of every one.
    """
    free = shutil.disk_usage(output_dir).free
    needed = sum(path.stat().st_size for pair in pairs for path in (pair.image, pair.mask))
    if free < needed and not (output_dir / "datalist.json").is_file():
        raise InputError(f"{output_dir}: {needed >> 20} MB are needed, {free >> 20} MB are free.")
    entries, errors = [], []
    for pair in tqdm(pairs, origin.dataset, disable=None):
        try:
            entry = store(pair, output_dir)
        except InputError as error:
            errors.append(str(error))
        except Exception as error:  # image decoders raise almost anything
            errors.append(f"{pair.image} or {pair.mask.name}: cannot be read ({error})")
        else:
            entries.append(entry | {"dataset": origin.dataset, "source": origin.source, "licence": origin.licence})
    if errors:
        raise InputError("\n".join(errors))
    return entries


def hold_out(entries: Sequence[Entry], count: int, seed: int, block: int = 1) -> tuple[list[Entry], list[Entry]]:
    """
    Draw some entries.

    Args:
        entries: in the order of their names.
        count: about how many to draw; whole blocks are drawn until there are so many.
        seed: of the draw.
        block: so many neighbours are drawn together, since frames of one video must not be on both sides. Defaults
            to 1.

    Returns:
        The rest and the drawn entries, both in the order given.
    """
    blocks = [range(start, min(start + block, len(entries))) for start in range(0, len(entries), block)]
    drawn: set[int] = set()
    for neighbours in random.Random(seed).sample(blocks, len(blocks)):
        if len(drawn) < count:
            drawn.update(neighbours)
    return (
        [entry for index, entry in enumerate(entries) if index not in drawn],
        [entry for index, entry in enumerate(entries) if index in drawn],
    )


def write_datalist(output_dir: Path, name: str, description: str, sections: Mapping[str, Sequence[Entry]]) -> None:
    """Write the sections that are not empty to ``datalist.json``, and print how many pairs they have."""
    filled = {section: entries for section, entries in sections.items() if entries}
    content = {"name": name, "description": description, **filled}
    write_atomic(output_dir / "datalist.json", json.dumps(content, indent=1) + "\n")
    print(f"{output_dir}/datalist.json: " + ", ".join(f"{len(v)} {k}" for k, v in filled.items()) + " pairs")
