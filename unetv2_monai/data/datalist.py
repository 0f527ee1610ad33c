# SPDX-License-Identifier: Apache-2.0
"""A folder or its datalist.json -> MONAI data lists of {"image": path, "label": path}, checked before use."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from ..core.errors import InputError
from ..core.listing import list_folders, stem
from .checks import check_each, check_pair, list_problems
from .folders import LAYOUT, existing_folder
from .layouts import Item, explain, read_folder, read_sub_folders

__all__ = ["find_pairs", "load_datalist"]

logger = logging.getLogger(__name__)

SPLITS = {"training": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLIT_FOLDERS = frozenset(name for names in SPLITS.values() for name in names)


def find_pairs(dataset_dir: str) -> dict[str, list[Item]]:
    """
    Find all image and mask pairs of a data set, without opening an image.

    Args:
        dataset_dir: the folder; docs/how-to/data.md states the layouts.

    Returns:
        The pairs of every section found, ``"training"``, ``"validation"`` and ``"test"``, or of the section
        ``"plain"`` where nothing says which pairs are for what. A pair is ``{"image": path, "label": path}`` with the
        name of its ``"dataset"`` where ``datalist.json`` or a folder below a split states it, and of its ``"patient"``
        where every patient has a folder.

    Raises:
        InputError: when the folder has no known layout, or for all files without a partner together.
    """
    root = existing_folder(dataset_dir)
    found, problems = _find_sections(root, SPLITS.keys())
    if problems:
        raise InputError(list_problems(root, problems))
    if not any(found.values()):
        raise InputError(f"dataset_dir {root} holds no images and masks: its datalist.json or train.txt is empty.")
    return {section: pairs for section, pairs in found.items() if pairs}


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

    Without a validation split, a seeded share of the training pairs is held out: of whole patients where every patient
    has a folder. A folder without any split is all training data for training, and all test data for evaluation.

    Args:
        dataset_dir: the folder; docs/how-to/data.md states the layouts.
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
        ``"dataset"`` where ``datalist.json`` or a folder below a split states it.

    Raises:
        InputError: when the folder has no known layout or lacks a section, or for all unpaired, unreadable and
            contradictory files together, each with its name.
    """
    root = existing_folder(dataset_dir)
    found, problems = _find_sections(root, {*sections, "training"} if "validation" in sections else set(sections))
    if "plain" in found:
        found["test" if "test" in sections else "training"] = found.pop("plain")
    training = found.get("training", [])
    if "validation" in sections and training and not found.get("validation") and not problems:
        training, found["validation"] = _hold_out(root, training, val_fraction, seed)
    if max_train_images is not None and "training" in sections and max_train_images < len(training):
        ratios = [max_train_images, len(training) - max_train_images]
        training = partition_dataset(training, ratios=ratios, shuffle=True, seed=seed)[0]
    found["training"] = training

    for section in sections:
        if not found.get(section) and not problems:
            raise InputError(_lacks(root, section, found))
    lists = {section: sorted(map(_unmarked, found.get(section, [])), key=itemgetter("image")) for section in sections}
    logger.info(f"{root}: " + ", ".join(f"{len(items)} {section}" for section, items in lists.items()) + " pairs.")
    if check:
        pairs = [item for items in lists.values() for item in items]
        problems += filter(None, check_each(pairs, lambda item: check_pair(item, out_channels, in_channels)))
    if problems:
        raise InputError(list_problems(root, problems))
    return lists


def _hold_out(root: Path, pairs: list[Item], val_fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Draw pairs for validation; where pairs have a patient, draw patients with all of their pairs."""
    groups: dict[str | int, list[Item]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(pair.get("patient", index), []).append(pair)
    patients = [name for name in groups if isinstance(name, str)]
    if len(groups) < 2:
        one = f"the folder of one patient only ({patients[0]}/)" if patients else "one pair only"
        hint = f" If {patients[0]}/ is the whole data set, set --dataset_dir to it." if patients else ""
        raise InputError(f"dataset_dir {root} holds {one}, and training needs another one for validation.{hint}")
    held_out = min(max(1, round(val_fraction * len(groups))), len(groups) - 1)
    ratios = [len(groups) - held_out, held_out]
    parts = partition_dataset(list(groups.values()), ratios=ratios, shuffle=True, seed=seed)
    training, validation = ([pair for group in part for pair in group] for part in parts)
    of_patients = f" ({held_out} of {len(groups)} patients)" if patients else ""
    shares = f"{len(validation)} of {len(pairs)} training pairs{of_patients}"
    logger.info(f"No validation split: {shares} are held out (seed {seed}).")
    return training, validation


def _unmarked(pair: Item) -> Item:
    """A pair without its patient, which was only for the hold-out: a batch needs the same keys in all of its items."""
    return {key: value for key, value in pair.items() if key != "patient"}


def _find_sections(root: Path, wanted: AbstractSet[str]) -> tuple[dict[str, list[Item]], list[str]]:
    """The pairs of every section, and a sentence for all that is wrong in the wanted ones."""
    path = root / "datalist.json"
    found, problems = _read_json(path, wanted) if path.is_file() else _read_folders(root, wanted)
    if not found and not problems:
        seen = _explain([folder for _, folder in _split_folders(root)] or [root])
        raise InputError(f"dataset_dir {root} holds no images and masks.\n{seen}{LAYOUT}")
    return found, problems


def _lacks(root: Path, section: str, found: dict[str, list[Item]]) -> str:
    has = ", ".join(f"{key} ({len(pairs)})" for key, pairs in found.items() if pairs) or "nothing"
    listed = (root / "datalist.json").is_file()
    seen = _explain([folder for name, folder in _split_folders(root) if name == section and not listed])
    return f"dataset_dir {root} has no {section} pairs; it has {has}.\n{seen}{LAYOUT}"


def _explain(folders: Sequence[Path]) -> str:
    """A line for each folder: what was seen in it, and which layouts are nearest to that."""
    return "".join(f"In {folder}: {explain(folder)}.\n" for folder in folders)


def _read_json(path: Path, wanted: AbstractSet[str]) -> tuple[dict[str, list[Item]], list[str]]:
    """Read ``datalist.json``: paths are relative to its folder."""
    try:
        content = json.loads(path.read_text())
        found = {key: [_item(path.parent, item) for item in content[key]] for key in SPLITS if key in content}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a MONAI data list ({type(error).__name__}: {error}).\n{LAYOUT}") from error
    if not found:
        raise InputError(f"{path} has none of the lists {', '.join(SPLITS)}.\n{LAYOUT}")
    problems: list[str] = []
    for section in found.keys() & wanted:
        files = [item[key] for item in found[section] for key in ("image", "label")]
        absent = [file for file in files if not Path(file).is_file()]
        problems += [f"{file}: listed in datalist.json, no such file" for file in absent]
        found[section] = [item for item in found[section] if not {*item.values()} & {*absent}]
    return found, problems


def _item(root: Path, item: dict[str, Any]) -> Item:
    """One entry of ``datalist.json``; what it states beside image, label and dataset is for people."""
    paths = {key: str(root / item[key]) for key in ("image", "label")}
    return paths | ({"dataset": str(item["dataset"])} if "dataset" in item else {})


def _read_folders(root: Path, wanted: AbstractSet[str]) -> tuple[dict[str, list[Item]], list[str]]:
    """Pairs per split folder, or per split file, or as "plain" where nothing says which split they are."""
    found: dict[str, list[Item]] = {}
    problems: list[str] = []
    read_as = []
    for section, folder in _split_folders(root):
        for layout in (read_folder(folder), read_sub_folders(folder, in_split=True)):
            if layout.pairs:
                found.setdefault(section, []).extend(layout.pairs)
            if section in wanted:
                problems += layout.problems
                read_as += [f"{folder.name}/: {layout.name}"] if layout.pairs else []
    if not found and not problems:
        layout, patients = read_folder(root), read_sub_folders(root, skip=SPLIT_FOLDERS)
        if layout.fits and patients.pairs:
            logger.warning(f"{root}: read as {layout.name}; pairs in its other sub-folders are left out.")
        layout = layout if layout.fits else patients
        problems += layout.problems
        read_as += [layout.name] if layout.pairs else []
        found, unknown = _read_split_files(root, layout.pairs, wanted)
        problems += unknown
    if read_as:
        logger.info(f"{root}: read as {'; '.join(read_as)}.")
    return found, problems


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    folders = list_folders(root)
    return [
        (section, folder)
        for section, names in SPLITS.items()
        for name in names
        for folder in folders
        if folder.name.lower() == name
    ]


def _read_split_files(
    root: Path, pairs: list[Item], wanted: AbstractSet[str]
) -> tuple[dict[str, list[Item]], list[str]]:
    """Sort pairs by the names in train.txt, val.txt and test.txt; all are "plain" if there is no such file."""
    found: dict[str, list[Item]] = {}
    problems = []
    by_stem = {stem(Path(pair["image"])): pair for pair in pairs}
    for section, names in SPLITS.items():
        for listing in (root / f"{name}.txt" for name in names):
            if not listing.is_file():
                continue
            if any("patient" in pair for pair in pairs):  # names repeat
                return {}, [f"{listing}: cannot list names in folders of patients; write a datalist.json instead"]
            stems = [stem(Path(line.strip())) for line in listing.read_text().splitlines() if line.strip()]
            if section in wanted:
                problems += [f"{listing}: no pair named {stem}" for stem in stems if stem not in by_stem]
            found.setdefault(section, []).extend(by_stem[stem] for stem in stems if stem in by_stem)
    return found or ({"plain": pairs} if pairs else {}), problems
