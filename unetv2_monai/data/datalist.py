# SPDX-License-Identifier: Apache-2.0
"""A folder or its datalist.json -> MONAI data lists of {"image": path, "label": path}, checked before use."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import partition_dataset
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from .checks import IMAGE_ENDINGS, MAX_LISTED, MAX_VOXELS, VOLUME_ENDINGS
from .images import to_mask, to_rgb

__all__ = ["list_images", "load_datalist", "report_images"]

logger = logging.getLogger(__name__)

Item = dict[str, str]

PICTURES, VOLUMES = IMAGE_ENDINGS, VOLUME_ENDINGS  # TODO: removed when no script imports them
FOLDERS = (("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"))
MASK_SUFFIXES = ("", "_segmentation", "_mask", "_label", "_seg", "_gt")
SPLITS = {"training": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}

LAYOUT = """Expected one of
  DIR/datalist.json                   {"training": [{"image": "a.jpg", "label": "a.png"}, ...], "test": ...}
  DIR/images, DIR/masks               pairs of one name; train.txt, val.txt, test.txt beside them may list names
  DIR/train/images, DIR/train/masks   and the same below DIR/val, DIR/test"""


def load_datalist(
    dataset_dir: str,
    sections: Sequence[str] = ("training", "validation"),
    val_fraction: float = 0.1,
    seed: int = 0,
    max_train_images: int | None = None,
    out_channels: int = 1,
    check: bool = True,
) -> dict[str, list[Item]]:
    """
    Find the image and mask pairs of a data set.

    Without a validation split, a seeded share of the training pairs is held out. A plain folder of ``images/`` and
    ``masks/`` without any split is all training data for training, and all test data for evaluation.

    Args:
        dataset_dir: the folder; docs/data.md states the layouts.
        sections: which of "training", "validation", "test" to return. No file of another section is opened.
        val_fraction: share of the training pairs held out where there is no validation split. Defaults to 0.1.
        seed: draws the held-out pairs and the subset of ``max_train_images``. Defaults to 0.
        max_train_images: use only so many training pairs, drawn by ``seed`` after the hold-out; None uses all.
            Defaults to None.
        out_channels: channels of the network, which decide the values that a mask may have. Defaults to 1.
        check: decode every file first: readable, one size per pair, mask values known. Defaults to True.

    Returns:
        For every section a list of ``{"image": path, "label": path}`` in the order of the paths, with the name of its
        ``"dataset"`` where ``datalist.json`` or a folder below ``test/`` states it.

    Raises:
        InputError: when the folder has no known layout or lacks a section, or for all unpaired, unreadable and
            contradictory files at once, each with its name.
    """
    root = _existing_folder(dataset_dir)
    errors: list[str] = []
    wanted = {*sections, "training"} if "validation" in sections else set(sections)
    found = _read_json(root, wanted, errors)
    if found is None:
        found = _read_folders(root, wanted, errors)
    if not found and not errors:
        raise InputError(f"dataset_dir {root} holds no images and masks.\n{LAYOUT}")
    if "plain" in found:
        found["test" if "test" in sections else "training"] = found.pop("plain")

    if "validation" in sections and not found.get("validation") and found.get("training"):
        pairs = found["training"]
        held_out = max(1, round(val_fraction * len(pairs)))
        if len(pairs) < 2 and not errors:
            raise InputError(f"dataset_dir {root} holds one pair only, and training needs another one for validation.")
        ratios = [len(pairs) - held_out, held_out]
        found["training"], found["validation"] = partition_dataset(pairs, ratios=ratios, shuffle=True, seed=seed)
        logger.info(f"No validation split: {held_out} of {len(pairs)} training pairs are held out (seed {seed}).")

    if max_train_images is not None and "training" in sections and max_train_images < len(found.get("training", [])):
        rest = len(found["training"]) - max_train_images
        found["training"] = partition_dataset(
            found["training"], ratios=[max_train_images, rest], shuffle=True, seed=seed
        )[0]

    lists: dict[str, list[Item]] = {}
    for section in sections:
        if not found.get(section) and not errors:
            has = ", ".join(f"{key} ({len(value)})" for key, value in found.items() if value) or "nothing"
            raise InputError(f"dataset_dir {root} has no {section} pairs; it has {has}.\n{LAYOUT}")
        lists[section] = sorted(found.get(section, []), key=lambda item: item["image"])
    logger.info(f"{root}: " + ", ".join(f"{len(items)} {section}" for section, items in lists.items()) + " pairs.")
    if check:
        pairs = [item for items in lists.values() for item in items]
        errors += _check(pairs, lambda item: _check_pair(item, out_channels))
    if errors:
        raise InputError(_listed(root, errors))
    return lists


def list_images(
    dataset_dir: str,
    check: bool = True,
    output_dir: str | None = None,
    broken: list[str] | None = None,
    skip_finished: bool = False,
) -> list[Item]:
    """
    Find the images to segment: those in ``dataset_dir/images`` if it exists, else those in ``dataset_dir``.

    Args:
        dataset_dir: the folder, or a single image.
        check: decode every file first. Defaults to True.
        output_dir: where masks of the same names will be written: must be another folder. Defaults to None.
        broken: a list that takes a sentence for every unreadable file, which is then left out; see
            :py:func:`report_images`. None raises for them. Defaults to None.
        skip_finished: leave out images whose mask is in ``output_dir``, whole and of their size. Defaults to False.

    Returns:
        A list of ``{"image": path}``, sorted.

    Raises:
        InputError: when there is no image, when two would give a mask of the same name, when masks would overwrite
            images, or for all unreadable files.
    """
    root = Path(dataset_dir)
    if root.is_file():
        paths = [root]
    else:
        root = _existing_folder(dataset_dir, "your images, or to one image.")
        root = root / "images" if (root / "images").is_dir() else root
        paths = _files(root)
    if not paths:
        raise InputError(f"dataset_dir {root} holds no image ({', '.join(IMAGE_ENDINGS + VOLUME_ENDINGS)}).")
    if output_dir is not None and Path(output_dir).resolve() == paths[0].parent.resolve():
        raise InputError(f"output_dir {output_dir} holds the images, which masks would overwrite: set another one.")
    errors: list[str] = []
    _by_stem(paths, errors)
    items = [{"image": str(path)} for path in paths]
    if check and not errors:
        found = _check_each(items, _check_image)
        (errors if broken is None else broken).extend(error for error in found if error)
        items = [item for item, error in zip(items, found) if not error]
    if errors:
        raise InputError(_listed(root, errors))
    if skip_finished and output_dir is not None:
        unfinished = _check_each(items, lambda item: None if _has_mask(item, Path(output_dir)) else "no mask yet")
        items = [item for item, reason in zip(items, unfinished) if reason]
    return items


def report_images(done: int, broken: Sequence[str], output_dir: str) -> None:
    """
    Say at the end how inference went.

    Args:
        done: number of masks written.
        broken: what :py:func:`list_images` found.
        output_dir: where the masks are.

    Raises:
        InputError: when files were broken: which, and why. On the command line the exit status is then 1.
    """
    print(done, "masks written to", output_dir)
    if broken:
        lines = "\n  ".join(broken)
        raise InputError(f"{len(broken)} files could not be read, the others are done:\n  {lines}")


def _existing_folder(dataset_dir: str, layout: str = f"your data.\n{LAYOUT}") -> Path:
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(f"dataset_dir {root} does not exist. Set --dataset_dir to the folder of {layout}")
    return root


def _listed(root: Path, errors: Sequence[str]) -> str:
    more = [f"... and {len(errors) - MAX_LISTED} more"] if len(errors) > MAX_LISTED else []
    lines = "\n  ".join([*errors[:MAX_LISTED], *more])
    return f"{len(errors)} problem{'s'[: len(errors) > 1]} in {root}:\n  {lines}\nMend or remove these files."


def _read_json(root: Path, wanted: AbstractSet[str], errors: list[str]) -> dict[str, list[Item]] | None:
    """Read ``datalist.json``, if there is one: paths are relative to its folder."""
    path = root / "datalist.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        found = {section: [_item(root, item) for item in content[section]] for section in SPLITS if section in content}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a MONAI data list ({type(error).__name__}: {error}).\n{LAYOUT}") from error
    if not found:
        raise InputError(f"{path} has none of the lists {', '.join(SPLITS)}.\n{LAYOUT}")
    for section in wanted & found.keys():
        files = [item[key] for item in found[section] for key in ("image", "label")]
        absent = [file for file in files if not Path(file).is_file()]
        errors += [f"{file}: listed in datalist.json, no such file" for file in absent]
        found[section] = [item for item in found[section] if not set(item.values()) & set(absent)]
    return found


def _item(root: Path, item: dict[str, Any]) -> Item:
    """One entry of ``datalist.json``; what it says beside image, label and dataset is for people."""
    paths = {key: str(root / item[key]) for key in ("image", "label")}
    return paths | ({"dataset": str(item["dataset"])} if "dataset" in item else {})


def _read_folders(root: Path, wanted: AbstractSet[str], errors: list[str]) -> dict[str, list[Item]]:
    """Pairs per split folder, or per split file, or under "plain" where nothing says which split they are."""
    found: dict[str, list[Item]] = {}
    for section, names in SPLITS.items():
        for name in names:
            for parent in (root / name, *sorted(p for p in root.glob(f"{name}/*") if p.is_dir())):
                pairs = _pairs(parent, errors if section in wanted else [])
                if parent.parent.name == name:  # one of several data sets
                    pairs = [{**pair, "dataset": parent.name} for pair in pairs]
                if pairs:
                    found[section] = found.get(section, []) + pairs
    if found:
        return found

    pairs = _pairs(root, errors)
    by_stem = {_stem(Path(pair["image"])): pair for pair in pairs}
    for section, names in SPLITS.items():
        for listing in (root / f"{name}.txt" for name in names):
            if listing.is_file():
                stems = [_stem(Path(line.strip())) for line in listing.read_text().splitlines() if line.strip()]
                if section in wanted:
                    errors += [f"{listing}: no pair named {stem}" for stem in stems if stem not in by_stem]
                found[section] = [by_stem[stem] for stem in stems if stem in by_stem]
    return found or ({"plain": pairs} if pairs else {})


def _pairs(parent: Path, errors: list[str]) -> list[Item]:
    """The pairs of one folder that holds images/ and masks/ (or their other names), if it does."""
    folders = next(
        ((parent / i, parent / m) for i, m in FOLDERS if (parent / i).is_dir() and (parent / m).is_dir()), None
    )
    if folders is None:
        return []
    images = _by_stem(_files(folders[0]), errors)
    masks: dict[str, Path] = {}
    for stem, path in _by_stem(_files(folders[1]), errors).items():
        names = [stem.removesuffix(suffix) for suffix in MASK_SUFFIXES if stem.endswith(suffix)]
        image = next((name for name in names if name in images), None)
        if image is None:
            errors.append(f"{path}: mask without an image of that name")
        elif image in masks:
            errors.append(f"{path}: second mask for {images[image].name}, beside {masks[image].name}")
        else:
            masks[image] = path
    errors += [
        f"{path}: image without a mask in {folders[1].name}/" for stem, path in images.items() if stem not in masks
    ]
    return [{"image": str(path), "label": str(masks[stem])} for stem, path in images.items() if stem in masks]


def _files(folder: Path) -> list[Path]:
    endings = IMAGE_ENDINGS + VOLUME_ENDINGS
    return sorted(p for p in folder.iterdir() if p.name.lower().endswith(endings) and not p.name.startswith("."))


def _stem(path: Path) -> str:
    name = path.name
    ending = next(
        (e for e in sorted(IMAGE_ENDINGS + VOLUME_ENDINGS, key=len, reverse=True) if name.lower().endswith(e)), ""
    )
    return name[: len(name) - len(ending)]


def _by_stem(paths: Iterable[Path], errors: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if (other := found.setdefault(_stem(path), path)) is not path:
            errors.append(f"{path}: same name as {other.name}")
    return found


def _check(items: Sequence[Item], check: Callable[[Item], str | None]) -> list[str]:
    """What ``check`` finds wrong, a sentence for each item that it finds wrong."""
    return [error for error in _check_each(items, check) if error]


def _check_each(items: Sequence[Item], check: Callable[[Item], str | None]) -> list[str | None]:
    """What ``check`` says of each item."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda item: _guarded(check, item), items)
        return list(tqdm(results, "Checking files", len(items), disable=None, leave=False))


def _guarded(check: Callable[[Item], str | None], item: Item) -> str | None:
    try:
        return check(item)
    except InputError as error:
        return str(error)


def _check_image(item: Item) -> str | None:
    _shape(item["image"], to_rgb)
    return None


def _has_mask(item: Item, output_dir: Path) -> bool:
    """Whether inference has written a mask of this image that can be read and has its size."""
    path = Path(item["image"])
    for ending in (".png", ".nii.gz"):
        mask = output_dir / (_stem(path) + ending)
        if mask.is_file():
            try:
                return _shape(str(mask), lambda opened: opened.convert("L")) == _shape(str(path), to_rgb)
            except InputError:
                return False
    return False


def _check_pair(item: Item, out_channels: int) -> str | None:
    image = _shape(item["image"], to_rgb)
    label = _shape(item["label"], lambda opened: to_mask(opened, out_channels), out_channels)
    if image != label:
        return f"{item['label']}: mask of {_by(label)}, but {Path(item['image']).name} is {_by(image)}"
    return None


def _shape(path: str, convert: Callable[[Image.Image], Image.Image], classes: int | None = None) -> tuple[int, ...]:
    """Decode a file and give its width, height (and depth); for masks of volumes check the values too."""
    try:
        if path.lower().endswith(IMAGE_ENDINGS):
            with Image.open(path) as opened:
                return convert(opened).size
        volume = nibabel.load(path)
        voxels = math.prod(volume.shape)  # type: ignore[attr-defined]
        if voxels > MAX_VOXELS:
            raise InputError(f"{path}: {voxels} voxels, more than the limit of {MAX_VOXELS}")
        values = np.asanyarray(volume.dataobj)  # type: ignore[attr-defined]
    except InputError:
        raise
    except Exception as error:  # image decoders raise almost anything
        raise InputError(f"{path}: cannot be read ({error})") from error
    if classes is not None and not np.isin(values, range(max(classes, 2))).all():
        raise InputError(f"{path}: label values {np.unique(values)[:8]}, expected 0 to {max(classes, 2) - 1}")
    return values.shape


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
