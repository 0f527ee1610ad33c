# SPDX-License-Identifier: Apache-2.0
"""The configuration page names every option of the configs, with its default, and no other."""

from __future__ import annotations

import json
import re

import pytest
import torch

from .conftest import ROOT
from .support.workflow import CONFIGS

# where the options end and the components begin
FIRST_COMPONENT = {"train": "datalist", "evaluate": "eval_datalist", "inference": "network_def"}
DERIVED = {"code_path", "check_options", "keep_memory", "resume_from", "rank", "distributed"}


@pytest.mark.parametrize("name", FIRST_COMPONENT)
def test_every_option_is_documented_with_its_default(name):
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    keys = list(config)
    options = {key: config[key] for key in keys[: keys.index(FIRST_COMPONENT[name])]}
    options = {key: value for key, value in options.items() if key != "imports" and key not in DERIVED}

    page = (ROOT / "docs" / "configuration.md").read_text()
    section = page.split(f"## {name}.json")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert list(documented) == list(options)
    for key, value in options.items():
        if not str(value).startswith("$"):
            assert documented[key] == f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_every_overlay_is_documented():
    page = (ROOT / "docs" / "configuration.md").read_text()
    for path in (*CONFIGS.glob("recipes/*.yaml"), *CONFIGS.glob("options/*.yaml")):
        if path.stem != "volumes_metadata":  # MONAI Label's
            assert path.name in page, path.name


def test_sdi_in_other_networks_as_documented():
    page = (ROOT / "docs" / "network.md").read_text()
    code = page.split("## SDI in another network")[1].split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code, names)
    for net in (names["flexible"], names["InfusedUNet"](spatial_dims=2, in_channels=3, out_channels=1)):
        out = net(torch.rand(2, 3, 64, 96))
        assert out.shape == (2, 1, 64, 96)
        out.sum().backward()
        infused = [p for name, p in net.named_parameters() if ".sdi." in name]
        assert infused
        assert all(p.grad is not None for p in infused)
