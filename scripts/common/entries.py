# SPDX-License-Identifier: Apache-2.0
"""The packages that the bundle is written as: what each has of its own is in ``bundle/entries/<key>``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unetv2_monai import InputError

from .bundle import BUNDLE, ROOT
from .cards import sections
from .packing import MODELS, NAME

__all__ = ["ENTRIES", "OWN_WEIGHTS", "Scores", "ZooEntry", "eval_metrics", "known_entries", "read_entry"]

ENTRIES = BUNDLE / "entries"


@dataclass(frozen=True)
class Scores:
    """
    The stored evaluation of an entry's weights. The numbers are only there.

    Args:
        sha256: of the file of weights that was evaluated.
        sets: name of a test set on the card -> ``<summary.json of the evaluation>#<its name there>``, relative to the
            repository.
    """

    sha256: str
    sets: Mapping[str, str]

    def read(self, weights: Path) -> dict[str, Any] | None:
        """
        Args:
            weights: file of the weights that are packed.

        Returns:
            Summaries by the card's names of the test sets; None when other weights were evaluated.
        """
        if hashlib.sha256(weights.read_bytes()).hexdigest() != self.sha256:
            return None
        places = {title: place.split("#") for title, place in self.sets.items()}
        return {title: json.loads((ROOT / file).read_text())[name] for title, (file, name) in places.items()}


@dataclass(frozen=True)
class ZooEntry:
    """
    What one package has of its own. The default is the bundle as it is, for weights of the user.

    Args:
        name: of the package and its folder.
        weights: file in ``bundle/models``. Defaults to none.
        data: names of the data sets in ``docs/data_license.txt`` that the weights were trained on. Defaults to None,
            which stands for all that are described there.
        options: that the weights need, by their keys. Defaults to none.
        recipe: that the weights were trained with. Defaults to none.
        metadata: an overlay of ``metadata.json``. Defaults to none.
        scores: the stored evaluation of the weights. Defaults to none.
        card: sections of the model card, by their headings. Defaults to none.
    """

    name: str = NAME
    weights: str = ""
    data: list[str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    scores: Scores | None = None
    card: dict[str, str] = field(default_factory=dict)

    @property
    def weights_file(self) -> Path:
        return MODELS / self.weights


OWN_WEIGHTS = ZooEntry()


def known_entries() -> list[str]:
    """
    Returns:
        Keys of all entries, sorted.
    """
    return sorted(path.parent.name for path in ENTRIES.glob("*/entry.yaml"))


def read_entry(key: str) -> ZooEntry:
    """
    Args:
        key: name of a folder in ``bundle/entries``.

    Raises:
        InputError: when there is no such entry.
    """
    if key not in known_entries():
        raise InputError(f"--entry {key}: there is {', '.join(known_entries())}.")
    content = yaml.safe_load((ENTRIES / key / "entry.yaml").read_text())
    scores = Scores(**content.pop("scores")) if "scores" in content else None
    return ZooEntry(**content, scores=scores, card=sections((ENTRIES / key / "card.md").read_text()))


def eval_metrics(summaries: Mapping[str, Any]) -> dict[str, float]:
    """
    Args:
        summaries: of evaluations, by names of the test sets.

    Returns:
        ``eval_metrics`` of ``metadata.json``: per set the mean Dice and IoU, the Dice over all pixels, the number of
        lesions missed, of volumes the mean surface Dice and, where there are images without a lesion, how many of them
        were left empty.
    """
    found = {}
    for title, one in summaries.items():
        prefix = re.sub(r"\W+", "_", title.lower())
        found[f"{prefix}_mean_dice"] = round(one["dice"]["mean"], 4)
        found[f"{prefix}_mean_iou"] = round(one["iou"]["mean"], 4)
        found[f"{prefix}_pooled_dice"] = round(one["pooled"]["dice"], 4)
        found[f"{prefix}_lesions_missed"] = one["missed"]
        if "surface_dice" in one:
            found[f"{prefix}_mean_surface_dice"] = round(one["surface_dice"]["mean"], 4)
        if one["lesion_free"]["images"]:
            found[f"{prefix}_lesion_free_images"] = one["lesion_free"]["images"]
            found[f"{prefix}_lesion_free_left_empty"] = one["lesion_free"]["left_empty"]
    return found
