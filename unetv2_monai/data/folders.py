# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder: image files, their names, and which of them are pairs of an image and its mask."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from .checks import IMAGE_ENDINGS, VOLUME_ENDINGS

__all__ = ["LAYOUT", "Item", "existing_folder", "find_pairs_in", "list_files", "stem", "unique_stems"]

Item = dict[str, str]

FOLDERS = (("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"))
MASK_SUFFIXES = ("", "_segmentation", "_mask", "_label", "_seg", "_gt")
ENDINGS = tuple(sorted(IMAGE_ENDINGS + VOLUME_ENDINGS, key=len, reverse=True))

LAYOUT = """Expected one of
  DIR/datalist.json                   {"training": [{"image": "a.jpg", "label": "a.png"}, ...], "test": ...}
  DIR/images, DIR/masks               pairs of one name; train.txt, val.txt, test.txt beside them may list names
  DIR/train/images, DIR/train/masks   and the same below DIR/val, DIR/test"""


def existing_folder(dataset_dir: str, layout: str = f"your data.\n{LAYOUT}") -> Path:
    """The folder as a path; InputError if there is none."""
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(f"dataset_dir {root} does not exist. Set --dataset_dir to the folder of {layout}")
    return root


def list_files(folder: Path) -> list[Path]:
    """The image files and volumes of a folder, sorted, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS) and not p.name.startswith("."))


def stem(path: Path) -> str:
    """The name of a file without the ending of an image or volume."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def unique_stems(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Files by their stems, and a sentence for every file whose stem another one has."""
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        if (other := found.setdefault(stem(path), path)) is not path:
            problems.append(f"{path}: same name as {other.name}")
    return found, problems


def find_pairs_in(parent: Path, problems: list[str]) -> list[Item]:
    """The pairs of one folder that holds images/ and masks/ (or their other names), if it does."""
    folders = next(
        ((parent / i, parent / m) for i, m in FOLDERS if (parent / i).is_dir() and (parent / m).is_dir()), None
    )
    if folders is None:
        return []
    images, image_problems = unique_stems(list_files(folders[0]))
    labels, label_problems = unique_stems(list_files(folders[1]))
    problems += image_problems + label_problems
    masks: dict[str, Path] = {}
    for name, path in labels.items():
        names = [name.removesuffix(suffix) for suffix in MASK_SUFFIXES if name.endswith(suffix)]
        image = next((name for name in names if name in images), None)
        if image is None:
            problems.append(f"{path}: mask without an image of that name")
        elif image in masks:
            problems.append(f"{path}: second mask for {images[image].name}, beside {masks[image].name}")
        else:
            masks[image] = path
    problems += [
        f"{path}: image without a mask in {folders[1].name}/" for name, path in images.items() if name not in masks
    ]
    return [{"image": str(path), "label": str(masks[name])} for name, path in images.items() if name in masks]
