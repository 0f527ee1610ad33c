# SPDX-License-Identifier: Apache-2.0
"""The reference of options is what the table and the configs say."""

import json
import re

import pytest

from ..conftest import ROOT, script
from ..support.workflow import CONFIGS

PAGE = ROOT / "docs" / "reference" / "options.md"


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_plain_values_are_documented_as_defaults(name):
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    plain = {key: value for key, value in config.items() if not re.search(r"[$@%{]", json.dumps(value))}
    if name == "evaluate":
        del plain["pretrained"]  # an option of train.json
    section = PAGE.read_text().split(f"## {name}.json")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert len(documented) > 3
    assert documented.keys() <= config.keys()
    for key, value in plain.items():
        assert documented[key] == f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_the_page_is_current():
    assert PAGE.read_text() == script("document_options").page(), "run: python scripts/document_options.py"
