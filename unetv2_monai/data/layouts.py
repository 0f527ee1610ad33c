# SPDX-License-Identifier: Apache-2.0
"""Recognise the layout of a folder: which files are images, which are masks, and which belong to one patient."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import listing
from ..core.errors import InputError
from ..core.listing import (
    IMAGE_FOLDERS,
    MANUAL_FOLDERS,
    MASK_FOLDERS,
    MASK_WORDS,
    list_files,
    list_folders,
    named_folders,
)

Item = dict[str, Any]  # "image" and "label": a path each, or several of one image

SPLITS = {"training": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
DECATHLON = (("imagestr",), ("labelstr",))  # names of folders in the Medical Segmentation Decathlon
IMAGE_NAMES, MASK_NAMES = IMAGE_FOLDERS + DECATHLON[0], MASK_FOLDERS + DECATHLON[1]
# the number of a patient, but not a year
NUMBERED = re.compile(r"(?!(19|20)\d\d$)(patient|pat|case|subject|subj|sub|p|s|id|)[ _-]*\d+", re.IGNORECASE)
CLASS_FOLDERS = ("benign", "malignant", "normal", "abnormal", "positive", "negative", "polyp", "nopolyp", "healthy")
CHANNEL = re.compile(r"(.+)_\d{4}")  # as nnU-Net names the files of one image
SPLIT_LIKE = re.compile(r"train|test|valid|(^|[^a-z])(val|dev|eval)([^a-z]|$)", re.IGNORECASE)

TWO_FOLDERS = "images/ and masks/ (or labels/, GT/, ground_truth/, annotations/, segmentations/)"
ONE_FOLDER = "a.jpg and a_mask.png (or a_segmentation, a_label, a_seg, a_gt) in one folder"
PER_PATIENT = "one folder per patient with images/ and masks/, or with a.jpg and a_mask.png"


@dataclass(frozen=True)
class Layout:
    """A layout of a folder, and the pairs found by it."""

    name: str = ""  # the layout in words
    pairs: list[Item] = field(default_factory=list)  # {"image": ..., "label": ...} in the order of the images
    problems: list[str] = field(default_factory=list)  # files without a partner, or several ways to read the folder
    mixed: bool = False  # whether images and masks lie in one folder

    @property
    def fits(self) -> bool:
        """Whether the folder has this layout, at least in part."""
        return bool(self.pairs or (self.problems and not self.mixed))


def read_folder(folder: Path) -> Layout:
    """Return the layout that fits a folder. When several fit, it has no pairs and one problem that names them."""
    couples = recognise(folder)
    layouts = [layout for layout in (pair_folders(*couple) for couple in couples) if layout.fits]
    layouts = layouts or [layout for layout in (pair_nested(*couple) for couple in couples) if layout.fits]
    if len(layouts) < 2:
        return layouts[0] if layouts else Layout()
    names = " and as ".join(layout.name for layout in layouts)
    problem = f"{folder}: can be read as {names}. Keep one of them, or list the pairs in datalist.json"
    return Layout(names, problems=[problem])


def recognise(folder: Path) -> list[tuple[Path, Path]]:
    """Return pairs of folders that may hold images and masks, by their names. A pair may be one folder for both."""
    if _manual_beside(folder):
        manual = [masks for masks in named_folders(folder, MANUAL_FOLDERS) if list_files(masks)]
        return [(images, masks) for images in named_folders(folder, IMAGE_FOLDERS) for masks in manual]
    couples = [
        (images, masks)
        for image_names, mask_names in ((IMAGE_FOLDERS, MASK_FOLDERS), DECATHLON)
        for images in named_folders(folder, image_names)
        for masks in named_folders(folder, mask_names)
    ]
    if not couples:
        return [(part, part) for part in (folder, *named_folders(folder, IMAGE_FOLDERS))]
    filled = [couple for couple in couples if all(map(list_files, couple))]
    return [*(filled or couples[:1]), (folder, folder)]


def _manual_beside(folder: Path) -> bool:
    """Tell whether the folder, or another split, has a folder of vessels; then mask/ is the field of view."""
    is_split = any(folder.name.lower() in names for names in SPLITS.values())
    splits = list_folders(folder.parent) if is_split else []
    return any(named_folders(place, MANUAL_FOLDERS) for place in (folder, *splits))


def pair_folders(images: Path, masks: Path) -> Layout:
    """Pair the files of two folders, or of one folder that holds both. In one folder, a word marks the masks."""
    mixed = images == masks
    files, problems = listing.unique_stems(list_files(images))
    channels = {name: [path] for name, path in files.items()}
    if mixed:
        files, mask_files = listing.split_by_suffix(files)
        name = f"images and masks (by suffix) in {images.resolve().name}/"
        where = f"beside it (its name with _{', _'.join(MASK_WORDS[:-1])} or _{MASK_WORDS[-1]})"
    else:
        mask_files, mask_problems = listing.unique_stems(list_files(masks))
        problems += mask_problems
        files = {name: path for name, path in files.items() if not name.endswith("_superpixels")}  # of ISIC 2017
        channels = _grouped(files, lambda name, case: name not in mask_files and case in mask_files)
        files = {case: paths[0] for case, paths in channels.items()}
        name, where = f"{images.name}/ + {masks.name}/", f"in {masks.name}/"
    pairs, unpaired = listing.pair_files(files, mask_files, where)
    of_first = {paths[0]: paths for paths in channels.values()}
    items = [{"image": one_or_all(of_first[image]), "label": one_or_all(some)} for image, some in pairs]
    return Layout(name, items, problems + unpaired, mixed)


def pair_named(root: Path, images_dir: str = "", masks_dir: str = "", mask_suffix: str = "") -> Layout:
    """Pair the files of two named folders, or of one; the name of a mask is that of its image with a suffix.

    Raise InputError if a folder does not exist, or if nothing tells the masks of one folder from its images.
    """
    folders = [root / images_dir, root / (masks_dir or images_dir)]
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        raise InputError(f"{absent[0]} is no folder. images_dir and masks_dir name folders in dataset_dir {root}.")
    if folders[0] == folders[1] and not mask_suffix:
        raise InputError(f"{folders[0]} holds images and masks: name the end of the masks' names by mask_suffix.")
    (files, problems), (masks, masks_twice) = (listing.unique_stems(list_files(folder)) for folder in folders)
    labels = {name.removesuffix(mask_suffix): path for name, path in masks.items() if name.endswith(mask_suffix)}
    if folders[0] == folders[1]:
        files, masks_twice = {name: path for name, path in files.items() if path not in labels.values()}, []
    problems += masks_twice + [f"{path}: image without a mask" for name, path in files.items() if name not in labels]
    problems += [f"{path}: mask without an image" for name, path in labels.items() if name not in files]
    items = [{"image": str(path), "label": str(labels[name])} for name, path in files.items() if name in labels]
    return Layout(f"{folders[0].name}/ + {folders[1].name}/, as named", items, problems)


def pair_nested(images: Path, masks: Path) -> Layout:
    """Pair the files of sub-folders of one name in two folders, such as images/p1/ and masks/p1/."""
    parts, others = ({part.name: part for part in list_folders(folder)} for folder in (images, masks))
    found = {name: pair_folders(part, others[name]) for name, part in parts.items() if name in others}
    if images == masks or not any(layout.pairs for layout in found.values()):
        return Layout()
    kind = _kind(parts.values())
    pairs = [{**pair, kind: name} for name, layout in found.items() for pair in layout.pairs]
    problems = [problem for layout in found.values() for problem in layout.problems]
    for one, other, place in ((parts, others, masks), (others, parts, images)):
        problems += [f"{one[name]}: no folder of that name in {place.name}/" for name in one if name not in other]
    return Layout(f"{images.name}/NAME + {masks.name}/NAME, one folder per {kind}", pairs, problems)


def _grouped(files: Mapping[str, Path], is_channel: Callable[[str, str], bool]) -> dict[str, list[Path]]:
    """Return the files of each image: one, or those named ``a_0000``, ``a_0001``, ... that are channels of ``a``."""
    images: dict[str, list[Path]] = {}
    for name, path in files.items():
        channel = CHANNEL.fullmatch(name)
        images.setdefault(channel[1] if channel and is_channel(name, channel[1]) else name, []).append(path)
    return images


def join_channels(paths: Sequence[Path], in_channels: int | None) -> list[list[Path]]:
    """Return the files of each image without masks: so many channels, of pictures not 3, or one file."""
    files = {listing.stem(path): path for path in paths}
    cases = _grouped(
        files, lambda name, _: in_channels is not None and (in_channels != 3 or listing.is_volume(files[name]))
    )
    return [part for some in cases.values() for part in ([some] if len(some) == in_channels else [[f] for f in some])]


def one_or_all(files: Sequence[Path]) -> str | list[str]:
    """Return the value of an item: a path, or a list of several."""
    return str(files[0]) if len(files) == 1 else [str(file) for file in files]


def _kind(parts: Iterable[Path]) -> str:
    """Return what sub-folders stand for: the classes of their images (``"group"``), or else patients."""
    return "group" if all(listing.plain_name(part) in CLASS_FOLDERS for part in parts) else "patient"


def read_sub_folders(folder: Path, in_split: bool = False, skip: AbstractSet[str] = frozenset()) -> Layout:
    """Find the pairs in the sub-folders of a folder. Each is a patient or, in a split, possibly a data set.

    In a split (train/, val/ or test/), a sub-folder that holds ``images/`` and ``masks/`` is a data set, and its pairs
    get its name as ``"dataset"``. It is also a patient if the names of all sub-folders are numbered, such as
    ``patient1``. Every other sub-folder is a patient, and its pairs get its name as ``"patient"``, or as ``"group"`` if
    all are named like classes of images, such as ``benign``. Sub-folders are left out if their names, in lower case,
    are in ``skip``.
    """
    found = {part: read_folder(part) for part in _other_folders(folder) if part.name.lower() not in skip}
    fitting = {part: layout for part, layout in found.items() if layout.fits}
    if not fitting:
        return Layout()
    numbered = all(NUMBERED.fullmatch(part.name) for part in fitting)
    of_patients = not in_split or numbered or any(layout.mixed for layout in fitting.values())
    kind = _kind(fitting)
    pairs: list[Item] = []
    problems: list[str] = []
    for part, layout in found.items():
        if not layout.fits:
            problems += [f"{part}: {explain(part)}"] if of_patients and holds_images(part) else []
        elif not in_split and SPLIT_LIKE.search(part.name):
            problems.append(f"{part}: a patient or a split? Name splits train, val and test, or write a datalist.json")
        else:
            names = {"dataset": part.name} if in_split and not layout.mixed else {}
            names |= {kind: part.name} if not in_split or numbered or layout.mixed else {}
            pairs += [{**pair, **names} for pair in layout.pairs]
            problems += layout.problems
    layouts = sorted({"images and masks (by suffix)" if layout.mixed else layout.name for layout in fitting.values()})
    each = {"group": "class", "patient": "patient"}[kind] if of_patients else "data set"
    return Layout(f"folders of one {each} each ({len(fitting)}) with {' or '.join(layouts)}", pairs, problems)


def explain(folder: Path) -> str:
    """Return a clause that says why no layout fits a folder: what it holds, and the two nearest layouts."""
    images, masks, loose = named_folders(folder, IMAGE_NAMES), named_folders(folder, MASK_NAMES), list_files(folder)
    others = list(filter(holds_images, _other_folders(folder)))
    nearest = f"expected {TWO_FOLDERS}, or {ONE_FOLDER}"
    if images and _manual_beside(folder):
        field_of_view = "no folder of masks: mask/ is the field of view beside 1st_manual/"
        return f"found {_names(images + masks)} but {field_of_view}; {nearest}"
    if images and masks:
        return f"found {_names(images + masks)}, which hold no pairs (their sub-folders are not read); {nearest}"
    if images or masks:
        also = f" (images lie also in {_names(others)})" if others else ""
        return f"found {_names(images or masks)} but no folder of {'masks' if images else 'images'}{also}; {nearest}"
    if loose:
        count = f"{len(loose)} image file{'s'[: len(loose) > 1]}"
        return f"found {count}, none with a mask beside it; expected {ONE_FOLDER}, or {TWO_FOLDERS}"
    if others:
        return f"found images in {_names(others)} but no masks for them; expected {TWO_FOLDERS}, or {PER_PATIENT}"
    return f"found no images; {nearest}"


def _is_kind(folder: Path) -> bool:
    """Tell whether a folder is named like a folder of images or of masks."""
    return listing.plain_name(folder) in IMAGE_NAMES + MASK_NAMES


def _other_folders(folder: Path) -> list[Path]:
    """Return the readable sub-folders that are not named like a folder of images or of masks."""
    return [part for part in list_folders(folder) if not _is_kind(part) and os.access(part, os.R_OK | os.X_OK)]


def holds_images(folder: Path) -> bool:
    """Tell whether image files lie in a folder, or in a sub-folder that is named like one of images or masks."""
    return any(list_files(part) for part in (folder, *filter(_is_kind, list_folders(folder))))


def _names(folders: Sequence[Path]) -> str:
    shown = [f"{folder.name}/" for folder in folders[:5]]
    return ", ".join(shown) + (f" and {len(folders) - 5} more folders" if len(folders) > 5 else "")
