# SPDX-License-Identifier: Apache-2.0
"""Layouts of folders: which files are images, which are their masks, and which belong to one patient."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError
from ..core.listing import list_files, list_folders, unique_stems

__all__ = ["Item", "Layout", "explain", "image_folder", "read_folder", "read_sub_folders", "read_suffixes"]

Item = dict[str, str]

# Names of folders in lower case, without spaces, "_" and "-".
IMAGE_NAMES = ("images", "image")
MASK_NAMES = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth"),
    *("annotations", "annotation", "segmentations", "segmentation"),
)
FOLDER_NAMES = ((IMAGE_NAMES, MASK_NAMES), (("imagestr",), ("labelstr",)))  # the second: Decathlon
MASK_SUFFIXES = ("_segmentation", "_mask", "_label", "_seg", "_gt")

NUMBERED = re.compile(
    r"(?!(19|20)\d\d$)(patient|pat|case|subject|subj|sub|p|s|id|)[ _-]*\d+", re.IGNORECASE
)  # no years
SPLIT_LIKE = re.compile(r"train|test|valid|(^|[^a-z])(val|dev|eval)([^a-z]|$)", re.IGNORECASE)

TWO_FOLDERS = "images/ and masks/ (or labels/, GT/, ground_truth/, annotations/, segmentations/)"
ONE_FOLDER = "a.jpg and a_mask.png (or a_segmentation, a_label, a_seg, a_gt) in one folder"
PER_PATIENT = "one folder per patient with images/ and masks/, or with a.jpg and a_mask.png"


@dataclass(frozen=True)
class Layout:
    """
    What was read from a folder.

    Args:
        name: the layout in words, such as ``"images/ + masks/"``.
        pairs: ``{"image": path, "label": path}`` for every pair, in the order of the images' paths.
        problems: a sentence for every file without a partner, or for a folder that can be read in several ways.
        mixed: whether images and masks lie in one folder. Defaults to False.
    """

    name: str
    pairs: list[Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    mixed: bool = False

    @property
    def fits(self) -> bool:
        """Whether the folder has this layout, if only in part."""
        return bool(self.pairs or self.problems)


def read_folder(folder: Path) -> Layout:
    """
    Find the pairs of one folder: a folder of images beside one of masks, or both kinds in one folder.

    Args:
        folder: the folder.

    Returns:
        The layout that fits. When several fit, no pairs and one problem that names them.
    """
    couples = [
        (images, masks)
        for image_names, mask_names in FOLDER_NAMES
        for images in _named(folder, image_names)
        for masks in _named(folder, mask_names)
    ]
    filled = [couple for couple in couples if all(map(list_files, couple))]
    mixed = [folder] if couples else [folder, *_named(folder, IMAGE_NAMES)]
    layouts = [_read_two_folders(*couple) for couple in filled or couples[:1]]
    layouts += [layout for layout in map(read_suffixes, mixed) if layout.pairs]
    layouts = [layout for layout in layouts if layout.fits]
    if len(layouts) < 2:
        return layouts[0] if layouts else Layout("")
    names = " and as ".join(layout.name for layout in layouts)
    problem = f"{folder}: can be read as {names}. Keep one of them, or list the pairs in datalist.json"
    return Layout(names, problems=[problem])


def read_suffixes(folder: Path) -> Layout:
    """
    Find the pairs in one folder of both kinds, where ``a_mask.png`` is the mask of ``a.jpg``.

    A file whose name ends like a mask's is an image if it has a mask itself and no image: ``b_seg.png`` beside
    ``b_seg_mask.png``.

    Args:
        folder: the folder.

    Returns:
        The layout; it fits only if it has pairs.
    """
    files, problems = unique_stems(list_files(folder))
    bases = {name: [base for base in _bases(name) if base != name] for name in files}
    with_mask = {base for name in files for base in bases[name] if base in files}
    masks = {name for name in files if bases[name] and (with_mask & {*bases[name]} or name not in with_mask)}
    pairs, unpaired = _match(
        {name: path for name, path in files.items() if name not in masks},
        {name: path for name, path in files.items() if name in masks},
        f"beside it (its name with {', '.join(MASK_SUFFIXES[:-1])} or {MASK_SUFFIXES[-1]})",
    )
    return Layout(f"images and masks (by suffix) in {folder.resolve().name}/", pairs, problems + unpaired, mixed=True)


def read_sub_folders(folder: Path, in_split: bool = False, skip: AbstractSet[str] = frozenset()) -> Layout:
    """
    Find the pairs in the sub-folders of a folder: one per patient, or in a split also one per data set.

    In a split, a sub-folder of ``images/`` and ``masks/`` is a data set, and pairs have its name as ``"dataset"``. It
    is also a patient if all are called by a number, such as ``patient1``. Every other sub-folder is a patient, and
    pairs have its name as ``"patient"``.

    Args:
        folder: the folder.
        in_split: whether the folder is train/, val/ or test/. Defaults to False.
        skip: names of sub-folders to leave out, in lower case. Defaults to none.

    Returns:
        The layout that fits.
    """
    found = {part: read_folder(part) for part in _other_folders(folder) if part.name.lower() not in skip}
    fitting = {part: layout for part, layout in found.items() if layout.fits}
    if not fitting:
        return Layout("")
    numbered = all(NUMBERED.fullmatch(part.name) for part in fitting)
    strict = not in_split or numbered or any(layout.mixed for layout in fitting.values())
    pairs: list[Item] = []
    problems: list[str] = []
    for part, layout in found.items():
        if not layout.fits:
            problems += [f"{part}: {explain(part)}"] if strict and _holds_images(part) else []
        elif not in_split and SPLIT_LIKE.search(part.name):
            problems.append(f"{part}: a patient or a split? Name splits train, val and test, or write a datalist.json")
        else:
            names = {"dataset": part.name} if in_split and not layout.mixed else {}
            names |= {"patient": part.name} if not in_split or numbered or layout.mixed else {}
            pairs += [{**pair, **names} for pair in layout.pairs]
            problems += layout.problems
    kinds = sorted({"images and masks (by suffix)" if layout.mixed else layout.name for layout in fitting.values()})
    kind = "patient" if any("patient" in pair for pair in pairs) else "data set"
    return Layout(f"folders of one {kind} each ({len(fitting)}) with {' or '.join(kinds)}", pairs, problems)


def image_folder(folder: Path) -> Path:
    """The folder of images in a folder, if it has one, else the folder; InputError if it has several with images."""
    named = _named(folder, IMAGE_NAMES)
    filled = [part for part in named if list_files(part)] or named[:1]
    if len(filled) > 1:
        names = " and ".join(f"{part.name}/" for part in filled)
        raise InputError(f"dataset_dir {folder} holds images in {names}: set --dataset_dir to one of them.")
    return filled[0] if filled else folder


def explain(folder: Path) -> str:
    """
    Say why a folder was not read: what it holds, and the two layouts that are nearest to that.

    Args:
        folder: a folder that no layout fits.

    Returns:
        A clause without a full stop.
    """
    images = _named(folder, (*IMAGE_NAMES, "imagestr"))
    masks = _named(folder, (*MASK_NAMES, "labelstr"))
    loose = list_files(folder)
    others = list(filter(_holds_images, _other_folders(folder)))
    also = f" (images lie also in {_names(others)})" if others else ""
    if images and not masks:
        return f"found {_names(images)} but no folder of masks{also}; expected {TWO_FOLDERS}, or {ONE_FOLDER}"
    if masks and not images:
        return f"found {_names(masks)} but no folder of images{also}; expected {TWO_FOLDERS}, or {ONE_FOLDER}"
    if images:
        without = "which hold no pairs (their sub-folders are not read)"
        return f"found {_names(images + masks)}, {without}; expected {TWO_FOLDERS}, or {ONE_FOLDER}"
    if loose:
        count = f"{len(loose)} image file{'s'[: len(loose) > 1]}"
        return f"found {count}, none with a mask beside it; expected {ONE_FOLDER}, or {TWO_FOLDERS}"
    if others:
        return f"found images in {_names(others)} but no masks for them; expected {TWO_FOLDERS}, or {PER_PATIENT}"
    return f"found no images; expected {TWO_FOLDERS}, or {ONE_FOLDER}"


def _read_two_folders(images: Path, masks: Path) -> Layout:
    image_files, image_problems = unique_stems(list_files(images))
    mask_files, mask_problems = unique_stems(list_files(masks))
    pairs, unpaired = _match(image_files, mask_files, f"in {masks.name}/")
    return Layout(f"{images.name}/ + {masks.name}/", pairs, image_problems + mask_problems + unpaired)


def _match(images: Mapping[str, Path], masks: Mapping[str, Path], where: str) -> tuple[list[Item], list[str]]:
    """Pair files by their stems, where a mask may have a suffix; with a sentence for each that stays alone."""
    found: dict[str, Path] = {}
    problems = []
    for name, path in masks.items():
        image = next((base for base in _bases(name) if base in images), None)
        if image is None:
            problems.append(f"{path}: mask without an image of that name")
        elif image in found:
            problems.append(f"{path}: second mask for {images[image].name}, beside {found[image].name}")
        else:
            found[image] = path
    problems += [f"{path}: image without a mask {where}" for name, path in images.items() if name not in found]
    return [{"image": str(path), "label": str(found[name])} for name, path in images.items() if name in found], problems


def _bases(name: str) -> list[str]:
    """The names that the image of a mask may have: the mask's own, and without its suffix."""
    return [name] + [name[: -len(suffix)] for suffix in MASK_SUFFIXES if name.lower().endswith(suffix)]


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """The sub-folders that have one of these names, in the order of the names."""
    parts = list_folders(folder)
    return [part for name in names for part in parts if _plain(part.name) == name]


def _plain(name: str) -> str:
    return re.sub("[ _-]", "", name.lower())


def _is_kind(folder: Path) -> bool:
    """Whether a folder is called like one of images or masks."""
    return any(_plain(folder.name) in names for couple in FOLDER_NAMES for names in couple)


def _other_folders(folder: Path) -> list[Path]:
    """The readable sub-folders that are not called like one of images or masks."""
    return [part for part in list_folders(folder) if not _is_kind(part) and os.access(part, os.R_OK | os.X_OK)]


def _holds_images(folder: Path) -> bool:
    """Whether images lie in a folder, or in its folders of images or masks."""
    return any(list_files(part) for part in (folder, *filter(_is_kind, list_folders(folder))))


def _names(folders: Sequence[Path]) -> str:
    shown = [f"{folder.name}/" for folder in folders[:5]]
    return ", ".join(shown) + (f" and {len(folders) - 5} more folders" if len(folders) > 5 else "")
