# SPDX-License-Identifier: Apache-2.0
"""The base configs read like a page: few keys, expressions and own components, and short chains of references."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest

from ..support.workflow import CONFIGS


def values(content: Any) -> Iterator[tuple[str, str]]:
    """Every text in a config, with its key; those of a list have the list's."""
    for key, value in content.items():
        for part in value if isinstance(value, list) else [value]:
            yield from values(part) if isinstance(part, dict) else [(key, str(part))]


def longest_chain(content: dict[str, Any]) -> int:
    """How many keys one has to look up, one after the other, to read a value."""

    @lru_cache(None)
    def length(key: str) -> int:
        part: Any = content
        for name in key.split("#"):
            part = part.get(name) if isinstance(part, dict) else None
        found = {name for _, text in values({"": part}) for name in re.findall(r"[@%]([\w#]+)", text)}
        return 1 + max(map(length, found), default=0)

    return max(map(length, content))


@pytest.mark.parametrize(
    ("name", "keys", "expressions", "own", "chain"), [("train", 45, 40, 10, 10), ("inference", 31, 20, 6, 8)]
)
def test_a_base_config_reads_like_a_page(name, keys, expressions, own, chain):
    text = (CONFIGS / f"{name}.json").read_text()
    content = json.loads(text)
    assert len(content) <= keys
    assert sum(value.startswith("$") for _, value in values(content)) <= expressions
    assert sum(key == "_target_" and value.startswith("unetv2_monai") for key, value in values(content)) <= own
    assert longest_chain(content) <= chain
    assert max(line.count('": ') for line in text.splitlines()) == 1  # one key a line
