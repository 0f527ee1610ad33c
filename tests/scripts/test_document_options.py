# SPDX-License-Identifier: Apache-2.0
"""The reference of options is what the table and the configs say."""

from __future__ import annotations

import json
import re

import pytest

from ..conftest import ROOT, script
from ..support.workflow import CONFIGS

PAGE = ROOT / "docs" / "reference" / "options.md"
# where the options end and derived values or components begin
FIRST_OTHER = {"train": "stack", "evaluate": "eval_datalist", "inference": "stack"}


@pytest.mark.parametrize("name", FIRST_OTHER)
def test_every_option_is_documented_with_its_default(name):
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    keys = list(config)
    options = {key: config[key] for key in keys[: keys.index(FIRST_OTHER[name])] if key != "imports"}
    section = PAGE.read_text().split(f"## {name}.json")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert list(documented) == list(options)
    for key, value in options.items():
        if not str(value).startswith("$"):
            assert documented[key] == f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_the_page_is_current():
    assert PAGE.read_text() == script("document_options").page(), "run: python scripts/document_options.py"
