# SPDX-License-Identifier: Apache-2.0
"""Convert the folders of a published data set to ``images/``, ``masks/`` and ``datalist.json``."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError
from unetv2_monai.core.files import encoded, write_atomic
from unetv2_monai.core.listing import IMAGE_ENDINGS, list_files, pair_files, stem, unique_stems
from unetv2_monai.core.masks import to_mask
from unetv2_monai.data.checks import check_pair

Entry = dict[str, str]  # one pair in datalist.json


class Pair(NamedTuple):
    """A published image and its mask, and their common name without endings."""

    name: str
    image: Path
    mask: Path


def match_pairs(root: Path, images: Sequence[str], masks: Sequence[str]) -> list[Pair]:
    """Pair the images of one folder below ``root`` with the masks of another by name; shorter names come first.

    ``images`` and ``masks`` are possible folders; the first existing one is taken. A suffix such as ``_segmentation``
    and a p before a number are ignored. Raises InputError if no folder exists, or for all files that have no partner or
    the same name as another file.
    """
    image_folder, mask_folder = _find_folder(root, images, "images"), _find_folder(root, masks, "masks")
    files = list_files(image_folder, IMAGE_ENDINGS)
    found, twice = unique_stems(path for path in files if not path.stem.endswith("_superpixels"))  # in ISIC 2017
    labels, masks_twice = unique_stems(list_files(mask_folder, IMAGE_ENDINGS))
    labels = {re.sub(r"^p(?=\d+$)", "", name): path for name, path in labels.items()}  # of ETIS and CVC-ColonDB
    pairs, alone = pair_files(found, labels, where=f"in {mask_folder}")
    alone += [
        f"{image}: has several masks: {', '.join(mask.name for mask in some)}" for image, some in pairs if some[1:]
    ]
    if problems := twice + masks_twice + alone:
        raise InputError("\n".join(sorted(problems)))
    if not pairs:
        raise InputError(f"{image_folder} holds no image ({', '.join(IMAGE_ENDINGS)}).")
    named = [Pair(stem(image), image, mask) for image, (mask,) in pairs]
    return sorted(named, key=lambda pair: (len(pair.name), pair.name))


def _find_folder(root: Path, names: Sequence[str], what: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root}: no folder of {what}; looked for {', '.join(names)}.")


def store_all(pairs: Sequence[Pair], output_dir: Path, origin: Entry, prefix: str = "") -> list[Entry]:
    """Write pairs to ``output_dir``: images unchanged, masks as PNG with values 0 and 255. Names begin with ``prefix``.

    An existing file with the same content is left unchanged; others are written atomically. Returns the pairs' entries
    in ``datalist.json``: paths, SHA-256, and the origin. Raises one InputError after all pairs, with the problems of
    all.
    """
    entries, errors = [], []
    for name, image, mask in tqdm(pairs, origin["dataset"], disable=None):
        try:
            check_pair({"image": str(image), "label": str(mask)})
        except InputError as error:
            errors.append(str(error))
            continue
        entry: Entry = {}
        for key, target, content in (
            ("image", f"images/{prefix}{name}{image.suffix.lower()}", image.read_bytes()),
            ("label", f"masks/{prefix}{name}.png", _clean_mask(mask)),
        ):
            path = output_dir / target
            if not path.is_file() or path.read_bytes() != content:
                write_atomic(path, content)
            entry |= {key: target, f"{key}_sha256": hashlib.sha256(content).hexdigest()}
        entries.append(entry | origin)
    if errors:
        raise InputError("\n".join(errors))
    return entries


def _clean_mask(path: Path) -> bytes:
    """Return a mask as PNG bytes with values 0 and 255. Such a file is returned unchanged, others are converted."""
    with Image.open(path) as opened:
        if opened.format == "PNG" and opened.mode == "L" and np.isin(np.asarray(opened), (0, 255)).all():
            return path.read_bytes()
        return encoded(to_mask(opened).point(lambda value: 255 * value), "PNG")


def hold_out(entries: Sequence[Entry], count: int, seed: int, block: int = 1) -> tuple[list[Entry], list[Entry]]:
    """Return the rest and about ``count`` random entries, in whole blocks of neighbours such as frames of a video."""
    starts = range(0, len(entries), block)
    drawn: set[int] = set()
    for start in random.Random(seed).sample(starts, len(starts)):
        if len(drawn) < count:
            drawn.update(range(start, min(start + block, len(entries))))
    rest = [entry for index, entry in enumerate(entries) if index not in drawn]
    return rest, [entry for index, entry in enumerate(entries) if index in drawn]


def write_datalist(output_dir: Path, name: str, description: str, sections: Mapping[str, Sequence[Entry]]) -> None:
    """Write the sections that are not empty to ``datalist.json``, and print how many pairs they have."""
    filled = {section: entries for section, entries in sections.items() if entries}
    content = {"name": name, "description": description, **filled}
    write_atomic(output_dir / "datalist.json", json.dumps(content, indent=1) + "\n")
    print(f"{output_dir}/datalist.json: " + ", ".join(f"{len(v)} {k}" for k, v in filled.items()) + " pairs")
