# SPDX-License-Identifier: Apache-2.0
"""Turn a folder or its datalist.json into MONAI data lists of {"image": path, "label": path}, and check them.

There are four steps. ``layouts`` recognises the layout of a folder and pairs its files. ``sections`` assigns the pairs
to training, validation or test. ``hold_out`` makes a missing validation split. ``checks`` decodes the files.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.data import partition_dataset
from monai.utils import ensure_tuple

from ..core.errors import InputError
from .checks import check_each, check_pair, lesion_share, list_problems, palette_problems
from .folds import hold_out_fold
from .layouts import SPLITS, Item
from .sections import LIST, PLAIN, lacking, read_sections

logger = logging.getLogger(__name__)


def load_datalist(
    dataset_dir: str,
    sections: Sequence[str] = ("training", "validation"),
    val_fraction: float = 0.1,
    seed: int = 0,
    max_train_images: int | None = None,
    out_channels: int = 1,
    check: bool = True,
    in_channels: int | None = None,
    mask_colors: Mapping[str, int] | None = None,
    folders: Mapping[str, str] | None = None,
    folds: Mapping[str, Any] | None = None,
    ignore_label: int | None = None,
) -> dict[str, list[Item]]:
    """Find the image and mask pairs of a data set.

    Without a validation split, a random share of the training pairs is held out. It consists of whole patients if every
    patient has a folder. Without any split, all pairs are training data in training, and test data in evaluation.

    Args:
        dataset_dir: the folder; docs/how-to/data.md states the layouts.
        sections: which of "training", "validation", "test" to return. No file of another section is opened.
        val_fraction: share of the training pairs to hold out if there is no validation split. Defaults to 0.1.
        seed: seed for choosing the held-out pairs and the ``max_train_images`` pairs. Defaults to 0.
        max_train_images: use only this many training pairs, chosen after the hold-out. Defaults to None: all.
        out_channels: output channels of the network; they decide which values a mask may have. Defaults to 1.
        check: decode every file first, and check the size of each mask and its values. Defaults to True.
        in_channels: channels that volumes must have if files are checked. Defaults to None: any number.
        mask_colors: the class of each colour, for masks in colours, see ``to_mask``. Defaults to None.
        folders: ``images_dir``, ``masks_dir`` and ``mask_suffix``, for names that no layout has. Defaults to None.
        folds: ``folds``, ``fold`` and ``file`` of ``hold_out_fold``, which then chooses validation. Defaults to None.
        ignore_label: the value of pixels whose class is unknown, see ``to_mask``. Defaults to None.

    Returns:
        For every section a list of ``{"image": path, "label": path}``, sorted by image. A pair also has a ``"dataset"``
        if ``datalist.json`` or a folder below a split names it.

    Raises:
        InputError: when the folder has no known layout or lacks a section, or when files are unpaired, unreadable or
            contradictory; one message then names all of them.
    """
    root = Path(dataset_dir)
    reading: dict[str, Any] = {"out_channels": out_channels, "colors": mask_colors, "ignore_label": ignore_label}
    if folds:
        folds = {**folds, "share": partial(lesion_share, **reading)}
    lists, problems = divide(root, sections, val_fraction, seed, max_train_images, folders, folds)
    if check:
        pairs = [pair for some in lists.values() for pair in some]
        problems += filter(None, check_each(pairs, partial(check_pair, in_channels=in_channels, **reading)))
        if mask_colors is None:
            problems += palette_problems(pairs, out_channels)
    if problems:
        raise InputError(list_problems(root, problems))
    return lists


def divide(
    root: Path,
    sections: Sequence[str] | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    max_train_images: int | None = None,
    folders: Mapping[str, str] | None = None,
    folds: Mapping[str, Any] | None = None,
) -> tuple[dict[str, list[Item]], list[str]]:
    """Return the lists of ``load_datalist``, for None those of all splits, and an error sentence for every problem."""
    wanted = {*(sections or SPLITS)}
    found, problems = read_sections(root, wanted | ({"training"} if "validation" in wanted else set()), folders)
    if PLAIN in found:
        found["test" if sections and "test" in sections else "training"] = found.pop(PLAIN)
    if folds and "validation" in found:
        raise InputError(f"dataset_dir {root} names its pairs of validation. Move them to training, or set no folds.")
    if not problems and "validation" in wanted and "training" in found and "validation" not in found:
        try:
            if folds:
                found |= hold_out_fold(root, found["training"], seed=seed, **folds)
            else:
                found |= hold_out(root, found["training"], val_fraction, seed)
        except InputError as error:
            problems.append(str(error))
    for section in sections or ():
        if section not in found and not problems:
            raise InputError(lacking(root, section, found))
    if max_train_images is not None and max_train_images < len(training := found.get("training", [])):
        ratios = [max_train_images, len(training) - max_train_images]
        found["training"] = partition_dataset(training, ratios=ratios, shuffle=True, seed=seed)[0]
    names = sections or [name for name in SPLITS if name in found]
    lists = {name: sorted(found.get(name, []), key=lambda pair: ensure_tuple(pair["image"])) for name in names}
    for pair in (pair for pairs in lists.values() for pair in pairs):
        for key in ("patient", "group"):  # only the hold-out needs them, and all items of a batch need the same keys
            pair.pop(key, None)
    logger.info(f"{root}: " + ", ".join(f"{len(pairs)} {section}" for section, pairs in lists.items()) + " pairs.")
    return lists, problems


def hold_out(root: Path, pairs: list[Item], val_fraction: float, seed: int) -> dict[str, list[Item]]:
    """Choose pairs for validation at random: whole patients if they have one, and of every class if they have one.

    Raises:
        InputError: when there is one pair or patient only, when folders may be patients or classes, or when no whole
            patients come near ``val_fraction``.
    """
    if any("group" in pair for pair in pairs):
        return _hold_out_classes(root, pairs, val_fraction, seed)
    groups: dict[str | int, list[Item]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(pair.get("patient", index), []).append(pair)
    patients = [name for name in groups if isinstance(name, str)]
    if len(groups) < 2:
        one = f"the folder of one patient only ({patients[0]}/)" if patients else "one pair only"
        hint = f" If {patients[0]}/ is the whole data set, set dataset_dir to it." if patients else ""
        raise InputError(f"dataset_dir {root} holds {one}, and training needs another one for validation.{hint}")
    held_out = min(max(1, round(val_fraction * len(groups))), len(groups) - 1)
    ratios = [len(groups) - held_out, held_out]
    parts = partition_dataset(list(groups.values()), ratios=ratios, shuffle=True, seed=seed)
    if patients:
        parts = _near_share(parts, val_fraction * len(pairs))
        held_out = len(parts[1])
    training, validation = ([pair for group in part for pair in group] for part in parts)
    shares = f"{len(validation)} of {len(pairs)} training pairs"
    if patients:
        shares += f" ({held_out} of {len(groups)} patients)"
        _refuse_guess(root, patients, len(validation) / len(pairs), val_fraction, shares)
    logger.info(f"No validation split: {shares} are held out (seed {seed}).")
    return {"training": training, "validation": validation}


def _hold_out_classes(root: Path, pairs: list[Item], val_fraction: float, seed: int) -> dict[str, list[Item]]:
    """Hold out a share of every class."""
    found: dict[str, list[Item]] = {"training": [], "validation": []}
    names = sorted({pair["group"] for pair in pairs})
    for name in names:
        members = [{k: v for k, v in pair.items() if k != "group"} for pair in pairs if pair["group"] == name]
        for section, some in hold_out(root / name, members, val_fraction, seed).items():
            found[section] += some
    logger.info(f"{root}: {', '.join(names)} are read as classes of images, not as patients.")
    return found


def _near_share(parts: Sequence[list[list[Item]]], target: float) -> tuple[list[list[Item]], list[list[Item]]]:
    """Divide shuffled patients again, so that the second part holds about ``target`` pairs, at least one patient's."""
    order = [*parts[0], *parts[1]]
    chosen: list[int] = []
    size = 0
    for index in reversed(range(len(order))):
        if abs(size + len(order[index]) - target) <= abs(size - target):
            chosen.append(index)
            size += len(order[index])
    chosen = (chosen or [min(range(len(order)), key=lambda index: len(order[index]))])[: len(order) - 1]
    rest = [group for index, group in enumerate(order) if index not in chosen]
    return rest, [order[index] for index in sorted(chosen)]


def _refuse_guess(root: Path, patients: Sequence[str], share: float, val_fraction: float, shares: str) -> None:
    """Refuse to hold out whole folders if they may be no patients, or if they are far from the share asked for."""
    shown = ", ".join(f"{name}/" for name in patients[:5]) + (", ..." if len(patients) > 5 else "")
    advice = f"Name the pairs of validation in val/ or {LIST}"
    if not all(re.search(r"\d", name) for name in patients):
        raise InputError(f"dataset_dir {root}: are {shown} patients, hospitals or classes of images? {advice}.")
    if not val_fraction / 2 <= share <= 2 * val_fraction:
        raise InputError(
            f"dataset_dir {root}: the folders {shown} are read as patients, and whole patients hold at best {shares}, "
            f"far from val_fraction {val_fraction}. {advice}, or set val_fraction to {share:.2f}."
        )
