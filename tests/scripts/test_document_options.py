# SPDX-License-Identifier: Apache-2.0
"""The reference of options is what the table and the configs say."""

import json
import re

import pytest

from unetv2_monai.bundle.option_table import OPTIONS

from ..conftest import ROOT, script
from ..support.workflow import CONFIGS


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_every_plain_value_is_documented(name):
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    plain = {key for key, value in config.items() if not re.search(r"[$@%{]", json.dumps(value))}
    assert plain - ({"pretrained"} if name == "evaluate" else set()) <= OPTIONS[name].keys()  # an option of train.json


def test_the_page_is_current():
    page = (ROOT / "docs" / "reference" / "options.md").read_text()
    assert page == script("document_options").page(), "run: python scripts/document_options.py"
    assert "| `max_epochs` | `30` |" in page
