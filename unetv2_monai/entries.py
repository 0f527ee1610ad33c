# SPDX-License-Identifier: Apache-2.0
"""Read ``entries/<key>`` of the bundle, which describes one file of shipped weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .core.errors import InputError
from .core.places import bundle_dir


@dataclass(frozen=True)
class Entry:
    """One file of shipped weights."""

    folder: Path  # holds the model card, README.md, and the terms of the data, data_license.txt
    name: str  # of the packed bundle with these weights
    weights: Path
    sha256: str  # of the weights that the card describes and that the scores belong to
    recipe: str | None = None  # recipe that the weights were trained with; None: train.json alone
    options: dict[str, Any] = field(default_factory=dict)  # options that the weights need
    metadata: dict[str, Any] = field(default_factory=dict)  # overlay of metadata.json
    eval_metrics: dict[str, float] = field(default_factory=dict)  # scores for metadata.json


def entry_keys() -> list[str]:
    """List the keys of all entries, sorted. A packed bundle has none, since it has only one file of weights."""
    return sorted(path.parent.name for path in bundle_dir().glob("entries/*/entry.yaml"))


def recipe_of(options: Mapping[str, Any]) -> str | None:
    """Return the recipe that weights of one's own need, by the options that they carry; None: train.json alone."""
    return "volumes" if options.get("spatial_dims") == 3 else None


def read_entry(key: str) -> Entry:
    """Read ``entries/<key>``; raise InputError if there is no such entry."""
    if key not in entry_keys():
        raise InputError(f"there are no shipped weights {key!r}, but {', '.join(entry_keys()) or 'none'}.")
    folder = bundle_dir() / "entries" / key
    content = yaml.safe_load((folder / "entry.yaml").read_text())
    return Entry(folder, weights=bundle_dir() / "models" / content.pop("weights"), **content)
