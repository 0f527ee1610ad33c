# SPDX-License-Identifier: Apache-2.0
"""The form of the configs: parts have names, expressions are short, nothing is said twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import yaml

from ..support.workflow import CONFIGS

PATHS = sorted(path for path in CONFIGS.rglob("*") if path.suffix in (".json", ".yaml"))


def load(path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())


def strings(content: Any) -> Iterator[str]:
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from strings(value)
    elif isinstance(content, str):
        yield content


def parts(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict | list):
        if isinstance(content, dict):
            yield content
        for value in content.values() if isinstance(content, dict) else content:
            yield from parts(value)


def longest_chain(content: dict[str, Any]) -> int:
    """How many keys one has to look up, one after the other, to read a value."""

    @lru_cache(None)
    def length(key: str) -> int:
        part: Any = content
        for name in key.split("#"):
            part = part.get(name) if isinstance(part, dict) else None
        found = {name for text in strings(part) for name in re.findall(r"[@%]([\w#]+)", text)}
        return 1 + max((length(name) for name in found), default=0)

    return max(map(length, content))


@pytest.mark.parametrize(
    ("name", "keys", "expressions", "own", "chain"), [("train", 45, 40, 10, 10), ("inference", 30, 20, 6, 8)]
)
def test_a_base_config_reads_like_a_page(name, keys, expressions, own, chain):
    text = (CONFIGS / f"{name}.json").read_text()
    content = json.loads(text)
    targets = [part["_target_"] for part in parts(content) if "_target_" in part]
    assert len(content) <= keys
    assert sum(value.startswith("$") for value in strings(content)) <= expressions
    assert sum(target.startswith("unetv2_monai") for target in targets) <= own
    assert longest_chain(content) <= chain
    assert max(line.count('": ') for line in text.splitlines()) == 1  # one key a line


def ids(path) -> set[str]:
    """Keys and references of a config."""
    content = load(path)
    return {*content, *(found for text in strings(content) for found in re.findall(r"[@%]([\w#:]+)", text))}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_nothing_is_addressed_by_its_position(path):
    """An inserted transform would change what a position means, in silence."""
    positions = [name for name in ids(path) if re.search(r"(#|::)\d+(#|::|$)", name)]
    positions += [text for text in strings(load(path)) if re.search(r"@[\w#]+\[-?\d*:?-?\d*\]", text)]
    assert positions == []


def test_a_position_is_found(tmp_path):
    for text in ("image_transforms#3: 1", "a: '$@train#random_transforms[:3]'", "train#handlers#0#epoch_level: false"):
        path = tmp_path / "overlay.yaml"
        path.write_text(text)
        with pytest.raises(AssertionError):
            test_nothing_is_addressed_by_its_position(path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_expressions_are_short(path):
    content = load(path)
    content.pop("bundle_dir", None)  # has to find a folder before any code of ours can be imported
    assert [text for text in strings(content) if text.startswith("$") and len(text) > 110] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_several_places_need_has_a_name(path):
    """``$@rank > 0`` is as short as a name for it would be."""
    counts = Counter(text for text in strings(load(path)) if text.startswith("$") and len(text) > 12)
    assert [text for text, count in counts.items() if count > 2] == []


@pytest.mark.parametrize("path", [*CONFIGS.glob("options/*"), *CONFIGS.glob("recipes/*")], ids=lambda path: path.stem)
def test_overlays_are_short_and_say_what_they_are_for(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= (40 if path.parent.name == "options" else 65)
