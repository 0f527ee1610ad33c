# SPDX-License-Identifier: Apache-2.0
"""The shipped weights: what ``entries/<key>`` of the bundle says of each file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .core.errors import InputError
from .core.places import bundle_dir

__all__ = ["Entry", "entry_keys", "read_entry"]


@dataclass(frozen=True)
class Entry:
    """One file of shipped weights."""

    folder: Path  # of its model card, README.md, and of the terms of its data, data_license.txt
    name: str  # of its package
    weights: Path
    sha256: str  # of the weights that the card describes and that the scores belong to
    recipe: str | None = None  # that the weights were trained with; None: that of train.json
    options: dict[str, Any] = field(default_factory=dict)  # that the weights need
    metadata: dict[str, Any] = field(default_factory=dict)  # overlay of metadata.json
    eval_metrics: dict[str, float] = field(default_factory=dict)  # scores for metadata.json


def entry_keys() -> list[str]:
    """Keys of all entries, sorted; none in a packed bundle, which has one file of weights."""
    return sorted(path.parent.name for path in bundle_dir().glob("entries/*/entry.yaml"))


def read_entry(key: str) -> Entry:
    """Read ``entries/<key>``; InputError when there is no such entry."""
    if key not in entry_keys():
        raise InputError(f"there are no shipped weights {key!r}, but {', '.join(entry_keys()) or 'none'}.")
    folder = bundle_dir() / "entries" / key
    content = yaml.safe_load((folder / "entry.yaml").read_text())
    return Entry(folder, weights=bundle_dir() / "models" / content.pop("weights"), **content)
