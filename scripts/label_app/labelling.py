# SPDX-License-Identifier: Apache-2.0
"""What the server keeps about its labelling: the order in which images were labelled, and the trainings so far."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from unetv2_monai.core.files import write_atomic

__all__ = ["Labelling"]

EVERY, FIRST = 5, 2  # of the labels in this order, the third, the eighth, ... are held out of training


class Labelling:
    """
    Args:
        path: of the file that keeps it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        """``{"order": [ids], "history": [trainings]}``"""
        return json.loads(self.path.read_text()) if self.path.exists() else {"order": [], "history": []}

    def saved(self, *images: str) -> None:
        """Note images as labelled; one that is there keeps its place."""
        self._append("order", images)

    def trained(self, training: dict[str, Any]) -> None:
        """Note a training."""
        self._append("history", [training])

    def _append(self, key: str, entries: Iterable[Any]) -> None:
        with self.lock:
            found = self.read()
            if new := [entry for entry in entries if entry not in found[key]]:
                found[key] += new
                write_atomic(self.path, json.dumps(found, indent=1))

    def held_out(self, labelled: Collection[str]) -> list[str]:
        """
        The labels that training never learns from, the same ones for good, so that Dice on them can be compared.

        Args:
            labelled: ids of the images that have labels now.
        """
        order = self.read()["order"]
        order += sorted(set(labelled) - set(order))  # labels that were in the folder before
        return [image for image in order[FIRST::EVERY] if image in labelled]
