# SPDX-License-Identifier: Apache-2.0
"""List the image and volume files of a folder, tell masks from images, and pair them."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import InputError

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii", ".nii.gz")
ENDINGS = IMAGE_ENDINGS + VOLUME_ENDINGS

MASK_SUFFIXES = ("_segmentation", "_mask", "_label", "_seg", "_gt")
# names of folders in the form that plain_name returns
IMAGE_FOLDERS = ("images", "image")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth"),
    *("annotations", "annotation", "segmentations", "segmentation"),
)


def list_files(folder: Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """Return the images and volumes of a folder, sorted, without hidden files and sub-folders."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(endings) and e.name[0] != "." and not _is_folder(e)]
    return [folder / name for name in sorted(names)]


def list_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and _is_folder(entry)]
    return [folder / name for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # is_dir raises for a loop of links


def plain_name(folder: Path) -> str:
    """Return the name of a folder in lower case, without spaces, ``_`` and ``-``."""
    return re.sub("[ _-]", "", folder.name.lower())


def named_folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the sub-folders whose plain name is one of ``names``, in the order of the names."""
    parts = list_folders(folder)
    return [part for name in names for part in parts if plain_name(part) == name]


def list_images(folder: Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """
    List the images of an existing folder, or of its sub-folder ``images/`` or ``image/``, sorted.

    If every image has one mask beside it, such as ``a_mask.png`` for ``a.jpg``, the masks are left out. Raise
    InputError when there is no image, or when both ``images/`` and ``image/`` hold images.
    """
    named = named_folders(folder, IMAGE_FOLDERS)
    filled = [part for part in named if list_files(part, endings)]
    if len(filled) > 1:
        names = " and ".join(f"{part.name}/" for part in filled)
        raise InputError(f"{folder} holds images in {names}: name one of them.")
    root = (filled or named or [folder])[0]
    paths = list_files(root, endings)
    if not paths:
        deeper = next((path for path in root.rglob("*") if path.name.lower().endswith(endings)), None)
        hint = f" Sub-folders are not read: name one of them, such as {deeper.parent}." if deeper else ""
        raise InputError(f"{root} holds no image ({', '.join(endings)}).{hint}")
    files, ambiguous = unique_stems(paths)
    pairs, unpaired = pair_files(*split_by_suffix(files))
    if not pairs or ambiguous or unpaired:
        return paths
    logger.info(f"{root}: {len(pairs)} masks beside their images are left out.")
    return [image for image, _ in pairs]


def is_volume(path: str | Path) -> bool:
    """Tell whether a file is read as a volume, because its name does not end like that of an image."""
    return not str(path).lower().endswith(IMAGE_ENDINGS)


def stem(path: Path) -> str:
    """Return the name of a file without the ending of an image or volume."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def unique_stems(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Return the files by their stems, and an error sentence for every file whose stem is taken by another file."""
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        if (other := found.setdefault(stem(path), path)) is not path:
            problems.append(f"{path}: same name as {other.name if other.parent == path.parent else other}")
    return found, problems


def split_by_suffix(files: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """
    Split the files of one folder, by their stems, into images and masks: ``a_mask.png`` is the mask of ``a.jpg``.

    A file named like a mask is an image if it has a mask but no image, as ``b_seg.png`` beside ``b_seg_mask.png``.
    """
    bases = {name: set(_bases(name)) - {name} for name in files}
    with_mask = {base for name in files for base in bases[name] if base in files}
    masks = {name for name in files if bases[name] and (with_mask & bases[name] or name not in with_mask)}
    return (
        {name: path for name, path in files.items() if name not in masks},
        {name: path for name, path in files.items() if name in masks},
    )


def pair_files(
    images: Mapping[str, Path], masks: Mapping[str, Path], where: str = "beside it"
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair images with masks of the same stem or with a suffix; also return an error sentence per unpaired file."""
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
    return [(path, found[name]) for name, path in images.items() if name in found], problems


def _bases(name: str) -> list[str]:
    """Return the stems that the image of a mask may have: the mask's own stem, and that stem without its suffix."""
    return [name] + [name[: -len(suffix)] for suffix in MASK_SUFFIXES if name.lower().endswith(suffix)]
