# SPDX-License-Identifier: Apache-2.0
"""Assign the pairs of a data set to its sections: training, validation and test."""

import itertools
import json
import logging
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from ..core.errors import InputError
from ..core.listing import left_out, list_folders, named_folders, stem
from .layouts import (
    SPLITS,
    Item,
    Layout,
    explain,
    holds_images,
    one_or_all,
    pair_folders,
    pair_named,
    read_folder,
    read_sub_folders,
)

logger = logging.getLogger(__name__)

LISTED = [f"{name}.txt" for names in SPLITS.values() for name in names]
PLAIN = "plain"  # the section of pairs that nothing assigns to another section
LIST = "datalist.json"
# folders of the ISIC challenges of 2016 to 2018, of task or part 1
CHALLENGE = re.compile(r"(ISBI2016_)?ISIC.*_(?P<split>Training|Validation|Test)(_v2)?_(Data|Input)", re.IGNORECASE)
MASKS_OF_CHALLENGE = re.compile(
    r"(ISBI2016_)?ISIC(?!.*(Part|Task)[23]).*_(?P<split>Training|Validation|Test)(_v2)?_(Part1_)?GroundTruth",
    re.IGNORECASE,
)
EXPECTED = """Expected one of
  DIR/datalist.json                   {"training": [{"image": "a.jpg", "label": "a.png"}, ...], "test": ...}
  DIR/images, DIR/masks               pairs of one name; train.txt, val.txt, test.txt beside them may list names
  DIR/train/images, DIR/train/masks   and the same below DIR/val, DIR/test"""

Parts = list[tuple[str, Layout]]  # sections, each with a layout that holds its pairs


def read_sections(
    root: Path, wanted: AbstractSet[str], folders: Mapping[str, str] | None = None
) -> tuple[dict[str, list[Item]], list[str]]:
    """Find the pairs of every section in named folders, by ``datalist.json``, by split folders, or else by the folder's
    own layout and split files.

    Pairs that nothing assigns to a section are in ``"plain"``. The second value has an error sentence for every problem
    in a wanted section. Raise InputError if the folder does not exist, or holds neither pairs nor such a problem.
    """
    if not root.is_dir():
        raise InputError(f"dataset_dir {root} does not exist.\n{EXPECTED}")
    wanted = {*wanted, PLAIN}
    if folders is not None:
        parts = _assign(root, pair_named(root, **folders))
    elif (root / LIST).is_file():
        parts = _read_list(root / LIST)
    else:
        parts = _read_split_folders(root)
        fitting = {section for section, layout in parts if layout.fits}
        if fitting and "training" not in fitting and (top := read_folder(root)).fits:
            parts.append(("training", top))  # the folder's own images and masks beside val/ or test/
        if not any(layout.pairs or (layout.problems and section in wanted) for section, layout in parts):
            parts = _read_plain_folder(root)

    found: dict[str, list[Item]] = {}
    for section, layout in parts:
        found.setdefault(section, []).extend(layout.pairs)
    problems = [problem for section, layout in parts if section in wanted for problem in layout.problems]
    if "validation" in wanted and not found.get("validation") and not (root / LIST).is_file():
        without = [
            folder for section, folder in _split_folders(root) if section == "validation" and holds_images(folder)
        ]
        problems += [f"{folder}: {explain(folder)}" for folder in without]
    if not any(found.values()) and not problems:
        none = ": its train.txt, val.txt or test.txt names none" if found.keys() - {PLAIN} else ""
        if (root / LIST).is_file():
            none = f": its {LIST} has none in the lists {', '.join(SPLITS)}"
        seen = _seen(root) or ("" if none else f"In {root}: {explain(root)}.\n")
        if (root / "dataset_description.json").is_file():
            seen += f"It is in BIDS, which is not read: list images and labels in {LIST}.\n"
        elif rest := left_out(root, set()):
            seen += f"Files there: {rest}.\n"
        raise InputError(f"dataset_dir {root} holds no images and masks{none}.\n{seen}{EXPECTED}")
    pairs = [pair for _, layout in parts for pair in layout.pairs]
    used = {path for pair in pairs for key in ("image", "label") for path in ensure_tuple(pair[key])}
    if rest := left_out(root, used | {str(root / name) for name in (LIST, *LISTED)}):
        logger.info(f"{root}: files that are not read: {rest}.")
    of_section = {section: {pair["patient"] for pair in some if "patient" in pair} for section, some in found.items()}
    for one, other in itertools.combinations(of_section, 2):
        if shared := sorted(of_section[one] & of_section[other]):
            logger.warning(f"{root}: folders of one name in {one} and {other}, the same patients? {', '.join(shared)}.")
    if read_as := dict.fromkeys(layout.name for section, layout in parts if section in wanted and layout.pairs):
        logger.info(f"{root}: read as {'; '.join(read_as)}.")
    return {section: pairs for section, pairs in found.items() if pairs}, problems


def lacking(root: Path, section: str, found: Mapping[str, list[Item]]) -> str:
    """Return a message that a section has no pairs, which sections have some, and what the section's folders hold."""
    has = ", ".join(f"{key} ({len(pairs)})" for key, pairs in found.items()) or "nothing"
    return f"dataset_dir {root} has no {section} pairs; it has {has}.\n{_seen(root, section)}{EXPECTED}"


def _seen(root: Path, section: str | None = None) -> str:
    """Return a line for each split folder, of one section or of all: what it holds, and the nearest layouts."""
    folders = [] if (root / LIST).is_file() else _split_folders(root)
    return "".join(f"In {folder}: {explain(folder)}.\n" for name, folder in folders if section in (None, name))


def _read_list(path: Path) -> Parts:
    """Read ``datalist.json``, whose paths are relative to its own folder."""
    try:
        content = json.loads(path.read_bytes())
        unknown = [key for key, value in content.items() if key not in SPLITS and _is_list_of_pairs(value)]
        found = {key: [_item(path.parent, item) for item in content[key]] for key in SPLITS if key in content}
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a MONAI data list ({type(error).__name__}: {error}).\n{EXPECTED}") from error
    if unknown:
        raise InputError(f"{path}: unknown list {unknown[0]!r}. The lists are {', '.join(SPLITS)}.")
    parts = []
    for section, items in found.items():
        files = [{path for key in ("image", "label") for path in ensure_tuple(item[key])} for item in items]
        absent = {path: None for some in files for path in sorted(some) if not Path(path).is_file()}
        problems = [f"{file}: listed in {LIST}, no such file" for file in absent]
        pairs = [item for item, some in zip(items, files) if not some & absent.keys()]
        parts.append((section, Layout(LIST, pairs, problems)))
    return parts


def _is_list_of_pairs(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) and "image" in item for item in value)


def _item(root: Path, item: dict[str, Any]) -> Item:
    """Return the images, labels and dataset of one entry of ``datalist.json``; other keys are ignored."""
    paths = {key: one_or_all([root / path for path in ensure_tuple(item[key])]) for key in ("image", "label")}
    return paths | ({"dataset": str(item["dataset"])} if "dataset" in item else {})


def _read_split_folders(root: Path) -> Parts:
    """Read train/, val/ and test/, and their sub-folders; or the folders of an ISIC challenge."""
    folders = list_folders(root)
    challenge = [
        (section, pair_folders(images, masks))
        for section in SPLITS
        for images in folders
        for masks in folders
        if (match := CHALLENGE.fullmatch(images.name)) and match["split"].lower() == section
        if (other := MASKS_OF_CHALLENGE.fullmatch(masks.name)) and other["split"].lower() == section
    ]
    decathlon = [
        (section, pair_folders(images, masks))
        for section, part in (("training", "tr"), ("test", "ts"))
        for images in named_folders(root, [f"images{part}"])
        for masks in named_folders(root, [f"labels{part}"])
    ]
    if decathlon[1:]:  # with labels of the test images, too
        return decathlon
    return challenge or [
        (section, replace(layout, name=f"{folder.name}/: {layout.name}"))
        for section, folder in _split_folders(root)
        for layout in (read_folder(folder), read_sub_folders(folder, in_split=True))
    ]


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    folders = list_folders(root)
    return [
        (section, folder)
        for section, names in SPLITS.items()
        for name in names
        for folder in folders
        if folder.name.lower() == name
    ]


def _read_plain_folder(root: Path) -> Parts:
    """Read a folder without split folders, or the folders of its patients."""
    split_names = {name for names in SPLITS.values() for name in names}
    layout, patients = read_folder(root), read_sub_folders(root, skip=split_names)
    if layout.fits and patients.pairs:
        logger.warning(f"{root}: read as {layout.name}; pairs in its other sub-folders are left out.")
    return _assign(root, layout if layout.fits else patients)


def _assign(root: Path, layout: Layout) -> Parts:
    """Assign the pairs of a folder by its split files, if it has some."""
    listings = [(section, root / f"{name}.txt") for section, names in SPLITS.items() for name in names]
    listings = [(section, path) for section, path in listings if path.is_file()]
    if not listings:
        return [(PLAIN, layout)]
    if any("patient" in pair for pair in layout.pairs):  # patients may have files of the same name
        problem = f"{listings[0][1]}: cannot list names in folders of patients; write a {LIST} instead"
        return [(PLAIN, Layout(problems=[*layout.problems, problem]))]
    return [(PLAIN, replace(layout, pairs=[])), *((section, _listed(path, layout)) for section, path in listings)]


def _listed(path: Path, layout: Layout) -> Layout:
    """Return the pairs whose names a split file lists."""
    # of several channels, the case has the name of its label
    by_stem = {stem(Path(pair["label" if isinstance(pair["image"], list) else "image"])): pair for pair in layout.pairs}
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        return Layout(problems=[f"{path}: is not in UTF-8. Save it in UTF-8"])
    names = [stem(Path(line.strip())) for line in text.splitlines() if line.strip()]
    problems = [f"{path}: no pair named {name}" for name in names if name not in by_stem]
    return Layout(layout.name, [by_stem[name] for name in names if name in by_stem], problems)
