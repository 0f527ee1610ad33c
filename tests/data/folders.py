# SPDX-License-Identifier: Apache-2.0
"""Files of data for tests, and the names of what is found in them."""

import re
from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
import yaml
from PIL import Image

from unetv2_monai.data.layouts import SPLITS
from unetv2_monai.data.sections import read_sections

CASES = yaml.safe_load((Path(__file__).parent / "layouts.yaml").read_text())


def touch(root: Path, paths: str) -> Path:
    """Empty files, for what goes by names alone.

    ``paths`` are divided by spaces, and a path may hold ``~`` for one; ``x/+a`` is x/images/a.png and x/masks/a.png.
    """
    paths = re.sub(r"(\S*)\+(\S+)", r"\1images/\2.png \1masks/\2.png", paths)
    for path in paths.replace("~", "\0").split():
        file = root / path.replace("\0", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return root


def write_image(path: Path, values: np.ndarray) -> Path:
    """An image of bytes; bools become 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values * np.uint8(255) if values.dtype == bool else values).save(path)
    return path


def write_volume(path: Path, values: np.ndarray | tuple[int, ...], affine: np.ndarray | None = None) -> str:
    """A NIfTI file of values, or of ones of a shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.ones(values, np.uint8) if isinstance(values, tuple) else values
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def names(items: Iterable[dict[str, str]]) -> list[str]:
    """Of the images of a data list, without endings."""
    return [Path(item["image"]).stem for item in items]


def find_pairs(folder: str) -> dict[str, list[dict[str, str]]]:
    """The pairs of a data set by section, none of which may have a problem; no image is opened."""
    found, problems = read_sections(Path(folder), SPLITS.keys())
    assert not problems
    return found
