# SPDX-License-Identifier: Apache-2.0
"""The image and volume files of a folder, and their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["IMAGE_ENDINGS", "VOLUME_ENDINGS", "list_files", "list_folders", "stem", "unique_stems"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii", ".nii.gz")
ENDINGS = tuple(sorted(IMAGE_ENDINGS + VOLUME_ENDINGS, key=len, reverse=True))


def list_files(folder: Path) -> list[Path]:
    """The images and volumes of a folder, sorted, without hidden files and sub-folders."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(ENDINGS) and e.name[0] != "." and not e.is_dir()]
    return [folder / name for name in sorted(names)]


def list_folders(folder: Path) -> list[Path]:
    """The sub-folders of a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
    return [folder / name for name in sorted(names)]


def stem(path: Path) -> str:
    """The name of a file without the ending of an image or volume."""
    name = path.name
    lower = name.lower()
    ending = next((ending for ending in ENDINGS if lower.endswith(ending)), "")
    return name[: len(name) - len(ending)]


def unique_stems(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Files by their stems, and a sentence for every file whose stem another one has."""
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        if (other := found.setdefault(stem(path), path)) is not path:
            problems.append(f"{path}: same name as {other.name}")
    return found, problems
