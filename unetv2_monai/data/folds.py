# SPDX-License-Identifier: Apache-2.0
"""Divide training pairs into folds for cross-validation, once for all runs."""

import json
import logging
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from ..core.errors import InputError
from ..core.files import write_atomic
from .layouts import Item

logger = logging.getLogger(__name__)


def hold_out_fold(
    root: Path,
    pairs: Sequence[Item],
    fold: int,
    folds: int,
    file: str,
    seed: int,
    share: Callable[[Item], float],
    divide: bool = True,
) -> dict[str, list[Item]]:
    """Return the pairs of one fold as validation, and those of the others as training.

    The first run writes the fold of every image to ``file``, and all others read it, so that no image changes its fold.
    Images that were added since are left out. Patients stay together. ``share`` measures the lesion of a pair. Without
    ``divide``, as in scoring, ``file`` must exist.

    Raises:
        InputError: when there are fewer images or patients than folds, or when ``file`` cannot be used.
    """
    if not 0 <= fold < folds:
        raise InputError(f"--fold {fold}: of {folds} folds, the first is 0 and the last {folds - 1}.")
    path = Path(file)
    names = [os.path.relpath(ensure_tuple(pair["image"])[0], root) for pair in pairs]
    if not path.is_file() and not divide:
        why = "in another division, a network would be scored on images that it was trained on."
        raise InputError(f"{file}, which holds the fold of each image, is missing. Restore it: {why}")
    if not path.is_file():
        content = {"folds": folds, "seed": seed, "fold_of": dict(zip(names, assign(pairs, folds, seed, share)))}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content, indent=1) + "\n")
    try:
        content = json.loads(path.read_text())
        found, fold_of = content["folds"], content["fold_of"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} holds no division into folds. Restore it, or name another --output_dir.") from error
    if found != folds:
        raise InputError(f"{file} divides into {found} folds, not {folds}. Set --folds {found}, or another output_dir.")
    lost, added = len(fold_of.keys() - {*names}), len({*names} - fold_of.keys())
    if lost:
        raise InputError(f"{lost} of the images in {file} are no longer in {root}. Restore them, or divide anew.")
    if added:
        logger.warning(f"{added} images were added after {file} was written. They are left out.")
    parts: dict[str, list[Item]] = {"training": [], "validation": []}
    for name, pair in zip(names, pairs):
        if name in fold_of:
            parts["validation" if fold_of[name] == fold else "training"].append(pair)
    return parts


def assign(pairs: Sequence[Item], folds: int, seed: int, share: Callable[[Item], float]) -> list[int]:
    """Return a fold for each pair: those of one patient together, lesions of all sizes and none evenly, by class if the
    pairs have one, and as many pairs in each fold as the patients allow.
    """
    groups: dict[Any, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault((pair.get("group", ""), pair.get("patient", index)), []).append(index)
    if len(groups) < folds:
        kind = "patients" if any("patient" in pair for pair in pairs) else "images"
        raise InputError(f"--folds {folds}: there are {len(groups)} {kind} only.")
    drawn = random.Random(seed)
    shares = {key: sum(share(pairs[index]) for index in group) / len(group) for key, group in groups.items()}
    order = sorted(drawn.sample([*groups], len(groups)), key=lambda key: (key[0], shares[key]))
    result, sizes = [0] * len(pairs), [0] * folds
    for start in range(0, len(order), folds):  # the groups of a block are alike, and each goes to another fold
        free = drawn.sample(range(folds), folds)
        for key in sorted(order[start : start + folds], key=lambda key: -len(groups[key])):
            free.remove(fold := min(free, key=lambda index: sizes[index]))
            sizes[fold] += len(groups[key])
            for index in groups[key]:
                result[index] = fold
    return result
