# SPDX-License-Identifier: Apache-2.0
"""The folder of a data set."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError

__all__ = ["LAYOUT", "existing_folder"]

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
