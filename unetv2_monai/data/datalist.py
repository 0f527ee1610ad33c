# SPDX-License-Identifier: Apache-2.0
"""A folder or its datalist.json -> MONAI data lists of {"image": path, "label": path}, checked before use."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from ..errors import InputError
from .checks import IMAGE_ENDINGS, VOLUME_ENDINGS, check_each, check_pair, list_problems
from .folders import LAYOUT, Item, existing_folder, find_pairs_in, stem

__all__ = ["load_datalist"]

logger = logging.getLogger(__name__)

PICTURES, VOLUMES = IMAGE_ENDINGS, VOLUME_ENDINGS  # TODO: removed when no script imports them
SPLITS = {"training": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}


def load_datalist(
    dataset_dir: str,
    sections: Sequence[str] = ("training", "validation"),
    val_fraction: float = 0.1,
    seed: int = 0,
    max_train_images: int | None = None,
    out_channels: int = 1,
    check: bool = True,
    in_channels: int | None = None,
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
        in_channels: channels of the network, which volumes must have if files are checked; images become RGB.
            None takes any number. Defaults to None.

    Returns:
        For every section a list of ``{"image": path, "label": path}`` in the order of the paths, with the name of its
        ``"dataset"`` where ``datalist.json`` or a folder below ``test/`` states it.

    Raises:
        InputError: when the folder has no known layout or lacks a section, or for all unpaired, unreadable and
            contradictory files at once, each with its name.
    """
    root = existing_folder(dataset_dir)
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
        errors += [
            error for error in check_each(pairs, lambda item: check_pair(item, out_channels, in_channels)) if error
        ]
    if errors:
        raise InputError(list_problems(root, errors))
    return lists


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
                pairs = find_pairs_in(parent, errors if section in wanted else [])
                if parent.parent.name == name:  # one of several data sets
                    pairs = [{**pair, "dataset": parent.name} for pair in pairs]
                if pairs:
                    found[section] = found.get(section, []) + pairs
    if found:
        return found

    pairs = find_pairs_in(root, errors)
    by_stem = {stem(Path(pair["image"])): pair for pair in pairs}
    for section, names in SPLITS.items():
        for listing in (root / f"{name}.txt" for name in names):
            if listing.is_file():
                stems = [stem(Path(line.strip())) for line in listing.read_text().splitlines() if line.strip()]
                if section in wanted:
                    errors += [f"{listing}: no pair named {stem}" for stem in stems if stem not in by_stem]
                found[section] = [by_stem[stem] for stem in stems if stem in by_stem]
    return found or ({"plain": pairs} if pairs else {})
