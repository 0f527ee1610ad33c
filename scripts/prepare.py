# SPDX-License-Identifier: Apache-2.0
"""What prepare_polyp.py and prepare_isic.py share: published folders -> images/, masks/ and datalist.json."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError, to_mask, to_rgb
from unetv2_monai.data.datalist import PICTURES
from unetv2_monai.files import write_atomic


def folder_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of ``names`` that is a folder below ``root``."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root}: no folder of {what}; looked for {', '.join(names)}.")


def pairs_of(images: Path, masks: Path, mask_stem: Callable[[str], str]) -> Iterator[tuple[str, Path, Path]]:
    """
    (name, image, mask) of every image, in the order of the names.

    Args:
        images, masks: the folders.
        mask_stem: name of a mask without its ending -> name of its image.

    Raises:
        InputError: for all images without a mask, and masks without an image, at once.
    """
    found = {
        path.stem: path
        for path in sorted(images.iterdir())
        if path.suffix.lower() in PICTURES and not path.stem.endswith("_superpixels")  # ISIC 2017 mixes them in
    }
    labels = {mask_stem(path.stem): path for path in sorted(masks.iterdir()) if path.suffix.lower() in PICTURES}
    alone = [f"{found[name]}: no mask in {masks}" for name in found.keys() - labels.keys()]
    alone += [f"{labels[name]}: no image in {images}" for name in labels.keys() - found.keys()]
    if alone or not found:
        raise InputError("\n".join(sorted(alone)) or f"{images} holds no image ({', '.join(PICTURES)}).")
    for name in sorted(found, key=lambda name: (len(name), name)):
        yield name, found[name], labels[name]


def place(name: str, image: Path, mask: Path, output_dir: Path) -> dict[str, str]:
    """
    Put one pair into ``output_dir``: the image as it is, the mask as PNG of 0 and 255.

    A file that is there already and has the same content is left alone; others are written whole or not at all.

    Returns:
        Its entry of ``datalist.json``: paths and SHA-256 of both files.
    """
    with Image.open(image) as opened:
        size = to_rgb(opened).size
    with Image.open(mask) as opened:
        clean = opened.format == "PNG" and opened.mode == "L" and opened.getextrema()[1] in (0, 255)
        label = to_mask(opened)
    if label.size != size:
        raise InputError(f"{mask}: mask of {label.width} x {label.height}, but {image.name} is {size[0]} x {size[1]}")
    targets = {
        "image": output_dir / "images" / (name + image.suffix.lower()),
        "label": output_dir / "masks" / f"{name}.png",
    }
    if clean:
        content = mask.read_bytes()
    else:
        buffer = io.BytesIO()
        label.point(lambda value: 255 * value).save(buffer, "PNG")
        content = buffer.getvalue()
    entry = {}
    for key, data in (("image", image.read_bytes()), ("label", content)):
        target = targets[key]
        if not target.is_file() or target.read_bytes() != data:
            write_atomic(target, data)
        entry[key] = str(target.relative_to(output_dir))
        entry[f"{key}_sha256"] = hashlib.sha256(data).hexdigest()
    return entry


def place_all(
    pairs: Sequence[tuple[str, Path, Path]], output_dir: Path, dataset: str, source: str, licence: str
) -> list[dict[str, str]]:
    """:py:func:`place` all pairs of one data set; problems of single files are raised together, at the end."""
    free = shutil.disk_usage(output_dir).free
    needed = sum(path.stat().st_size for _, *paths in pairs for path in paths)
    if free < needed and not (output_dir / "datalist.json").is_file():
        raise InputError(f"{output_dir}: {needed >> 20} MB are needed, {free >> 20} MB are free.")
    entries, errors = [], []
    for name, image, mask in tqdm(pairs, dataset, disable=None):
        try:
            entry = place(name, image, mask, output_dir)
        except InputError as error:
            errors.append(str(error))
        except Exception as error:  # image decoders raise almost anything
            errors.append(f"{image} or {mask.name}: cannot be read ({error})")
        else:
            entries.append(entry | {"dataset": dataset, "source": source, "licence": licence})
    if errors:
        raise InputError("\n".join(errors))
    return entries


def hold_out(entries: list[dict[str, str]], count: int, seed: int, block: int = 1) -> tuple[list, list]:
    """
    (rest, drawn): about ``count`` entries drawn by ``seed``, both in the order given.

    Args:
        block: draw so many neighbours together: frames of one video must not stand on both sides.
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


def write_datalist(output_dir: Path, name: str, description: str, sections: dict[str, list]) -> None:
    """``datalist.json`` of the non-empty sections; printed as a summary."""
    content = {"name": name, "description": description, **{key: value for key, value in sections.items() if value}}
    write_atomic(output_dir / "datalist.json", (json.dumps(content, indent=1) + "\n").encode())
    print(f"{output_dir}/datalist.json: " + ", ".join(f"{len(v)} {k}" for k, v in sections.items() if v) + " pairs")
