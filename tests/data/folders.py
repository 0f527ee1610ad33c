# SPDX-License-Identifier: Apache-2.0
"""Folders of files for tests of data, and what is found in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unetv2_monai import InputError


def touch(root: Path, paths: str) -> Path:
    """Empty files, for what goes by names alone; ``paths`` are divided by spaces, and a path may hold ``~`` for one."""
    for path in paths.replace("~", "\0").split():
        file = root / path.replace("\0", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return root


def write_volume(path: Path, values: np.ndarray | tuple[int, ...], affine: np.ndarray | None = None) -> str:
    """A NIfTI file of values, or of ones of a shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.ones(values, np.uint8) if isinstance(values, tuple) else values
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def names(items: Iterable[dict[str, str]], ending: bool = False) -> list[str]:
    """Of the images of a data list."""
    return [Path(item["image"]).name if ending else Path(item["image"]).stem for item in items]


def refusal(load: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The message of the InputError that a call raises."""
    with pytest.raises(InputError) as info:
        load(*args, **kwargs)
    return str(info.value)
