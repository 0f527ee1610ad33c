# SPDX-License-Identifier: Apache-2.0
"""List the image and volume files of a folder, tell masks from images, and pair them."""

import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from .errors import InputError

logger = logging.getLogger(__name__)

PICTURE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
IMAGE_ENDINGS = (*PICTURE_ENDINGS, ".dcm")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd")
NIFTI_ENDINGS = (".nii", ".nii.gz")
VOLUME_ENDINGS = (*NIFTI_ENDINGS, ".mgz", ".mgh", *ITK_ENDINGS)
ENDINGS = IMAGE_ENDINGS + VOLUME_ENDINGS

# words at the beginning or the end of a name that say what a file is
MASK_WORDS = ("segmentation", "mask", "label", "seg", "gt")
IMAGE_WORDS = ("image", "img", "imaging", "volume", "training", "test")
_MASK = "|".join((*MASK_WORDS, "manual1"))  # the last is DRIVE's
_MASK_NAMES = (
    re.compile(rf"(?P<mask>(?P<base>.+)[ _-]({_MASK}))(?P<number>[ _-]\d+)?", re.IGNORECASE),
    re.compile(rf"(?P<mask>({_MASK})[ _-](?P<base>.+))(?P<number>)", re.IGNORECASE),
)
_IMAGE_NAME = re.compile(rf"({'|'.join(IMAGE_WORDS)})[ _-](.+)|(.+)[ _-]({'|'.join(IMAGE_WORDS)})", re.IGNORECASE)
# names of folders in the form that plain_name returns
IMAGE_FOLDERS = ("images", "image", "original")
# where a data set of vessels has one of these, its mask/ is the field of view
MANUAL_FOLDERS = ("1stmanual", "manual1")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth", "annotations", "annotation"),
    *("segmentations", "segmentation", *MANUAL_FOLDERS),
)
MOST_NAMED = 5  # folders of files that are left out


def list_files(folder: Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """Return the images and volumes of a folder, sorted, without hidden ones. InputError: a name is not in UTF-8."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(endings) and e.name[0] != "." and not _is_folder(e)]
    for name in names:
        refuse_other_encoding(folder / name)
    return [folder / name for name in sorted(names)]


def refuse_other_encoding(path: str | Path) -> None:
    """Raise InputError if a name is not in UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r} is not in UTF-8, as names in tables must be: rename it.") from error


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
    """List the images of an existing folder, or of its sub-folder ``images/``, ``image/`` or ``original/``, sorted.

    Masks beside their images, such as ``a_mask.png`` beside ``a.jpg``, are left out. Raise InputError when there is no
    image, or when two of these sub-folders hold images.
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
    images, masks = split_by_suffix(unique_stems(paths)[0])
    beside = {masks[name] for name in _owners(masks, images)}
    if beside:
        logger.info(f"{root}: {len(beside)} masks beside their images are left out.")
    if rest := left_out(folder, {str(path) for path in paths}):
        logger.info(f"{folder}: files that are not read: {rest}.")
    return [path for path in paths if path not in beside]


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
    """Split the files of one folder, by their stems, into images and masks: ``a_mask.png`` is the mask of ``a.jpg``. A
    file named like a mask is an image if it has a mask but no image, as ``b_seg.png`` beside ``b_seg_mask.png``.
    """
    bases = {name: set(_bases(name)) for name in files}
    with_mask = {base for name in files for base in bases[name] if base in files}
    masks = {
        name: path for name, path in files.items() if bases[name] and (with_mask & bases[name] or name not in with_mask)
    }
    return {name: path for name, path in files.items() if name not in masks}, masks


def pair_files(
    images: Mapping[str, Path], masks: Mapping[str, Path], where: str = "beside it"
) -> tuple[list[tuple[Path, list[Path]]], list[str]]:
    """Pair images with their masks, by names; also return an error sentence for every file without a partner.

    A mask has the name of its image, where words such as ``mask`` and ``img`` at either end do not count. An image has
    several masks only if they are numbered, as ``a_mask`` and ``a_mask_1``.
    """
    owners, found, problems = _owners(masks, images), dict[str, list[str]](), []
    for name, path in masks.items():
        image = owners.get(name)
        if image is None:
            problems.append(f"{path}: mask without an image of that name")
        elif image in found and len({_unnumbered(one) for one in (name, *found[image])}) > 1:
            other = masks[found[image][0]]
            problems.append(f"{path}: second mask for {images[image].name}, beside {other.name}")
        else:
            found.setdefault(image, []).append(name)
    problems += [f"{path}: image without a mask {where}" for name, path in images.items() if name not in found]
    return [(path, [masks[one] for one in found[name]]) for name, path in images.items() if name in found], problems


def left_out(root: Path, used: Collection[str]) -> str:
    """Return a clause that counts the files below a folder that are not used, by folder and ending; or nothing."""
    counts: Counter[tuple[str, str]] = Counter()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in files:
            if name[0] != "." and name.lower() not in ("thumbs.db", "desktop.ini") and f"{folder}/{name}" not in used:
                where = Path(folder).relative_to(root).as_posix()
                counts["" if where == "." else f"{where}/", Path(name).suffix or "no ending"] += 1
    shown = [f"{count} ({ending})" + (f" in {folder}" if folder else "") for (folder, ending), count in counts.items()]
    more = sum([*counts.values()][MOST_NAMED:])
    return ", ".join([*shown[:MOST_NAMED], *[f"{more} elsewhere"][: bool(more)]])


def _owners(masks: Iterable[str], images: Collection[str]) -> dict[str, str]:
    """Return the image of each mask that has one, by their stems in one folder."""
    plain = {name: next(filter(None, match.group(2, 3))) for name in images if (match := _IMAGE_NAME.fullmatch(name))}
    plain |= {name: "" for name in images if name.lower() in IMAGE_WORDS}  # imaging.nii, segmentation.nii of a case
    several = Counter(plain.values())
    by_base = {base: name for name, base in plain.items() if several[base] == 1}
    found = {}
    for mask in masks:
        names = [mask, *_bases(mask)]
        exact = (name for name in names if name in images)
        other = (by_base[name] for name in names if name in by_base)
        if image := next(itertools.chain(exact, other), None):
            found[mask] = image
    return found


def _bases(name: str) -> list[str]:
    """Return the stems that the image of a mask may have, by the words and the number in the mask's name."""
    if name.lower() in MASK_WORDS:
        return [""]
    found = []
    for pattern in _MASK_NAMES:
        if match := pattern.fullmatch(name):
            found += [match["base"] + match["number"]] if match["number"] else []  # a_mask_1 of a_1, or else of a
            found.append(match["base"])
    return found


def _unnumbered(name: str) -> str:
    """Return the name of a mask without its number."""
    return match["mask"] if (match := _MASK_NAMES[0].fullmatch(name)) else name
