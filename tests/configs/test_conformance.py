# SPDX-License-Identifier: Apache-2.0
"""What the model zoo's checks ask of a bundle, and what overlays may name."""

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

import unetv2_monai
from unetv2_monai import UNetV2

from ..conftest import ROOT, draw_pairs
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, INFERENCE, TINY, workflow

METADATA = json.loads((CONFIGS / "metadata.json").read_text())


def test_metadata_says_what_zoo_and_monai_label_read():
    assert METADATA["schema"].endswith("meta_schema_20240725.json")  # packages are held against it
    assert METADATA["version"] == unetv2_monai.__version__
    assert METADATA["version"] in METADATA["changelog"]
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == METADATA["version"]
    formats = METADATA["network_data_format"]
    assert next(iter(formats["inputs"])) == "image"
    assert next(iter(formats["outputs"])) == "pred"
    assert list(formats["outputs"]["pred"]["channel_def"]) == ["0", "1"]
    assert all(METADATA[key] for key in ("references", "intended_use", "data_source", "name"))
    # plain numbers, as the zoo installs them; monai's is compared as a string
    versions = METADATA["required_packages_version"]
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in versions.values())
    required = re.findall(r"^([a-z-]+)>=", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(versions) == set(required) - {"monai", "torch", "numpy"}  # which have keys of their own


@pytest.mark.parametrize(("files", "run_id"), [(EVALUATE, "evaluating"), (INFERENCE, "inference")])
def test_properties(files, run_id, pairs, tmp_path):
    """Those that MONAI requires. Of a training: tests/configs/test_recipes.py."""
    weights = CONFIGS.parent / "models" / "model.pt"
    flow = workflow(files, run_id, dataset_dir=pairs, output_dir=tmp_path, checkpoint=weights, num_workers=0)
    assert flow.check_properties() == []


def ids(config: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in config.items():
        found |= {f"{prefix}{key}"} | (ids(value, f"{prefix}{key}#") if isinstance(value, dict) else set())
    return found


def values(content: Any) -> Iterator[tuple[str, str]]:
    """Every text in a config, with its key; those of a list have the list's."""
    for key, value in content.items():
        for part in value if isinstance(value, list) else [value]:
            yield from values(part) if isinstance(part, dict) else [(key, str(part))]


@pytest.mark.parametrize(("name", "keys", "expressions", "own"), [("train", 45, 40, 10), ("inference", 31, 20, 6)])
def test_a_base_config_reads_like_a_page(name, keys, expressions, own):
    text = (CONFIGS / f"{name}.json").read_text()
    content = json.loads(text)
    assert len(content) <= keys
    assert sum(value.startswith("$") for _, value in values(content)) <= expressions
    assert sum(key == "_target_" and value.startswith("unetv2_monai") for key, value in values(content)) <= own
    assert max(line.count('": ') for line in text.splitlines()) == 1  # one key a line


@pytest.mark.parametrize("path", [*CONFIGS.glob("*.json"), *CONFIGS.glob("*/*.yaml")], ids=lambda path: path.stem)
def test_configs_name_what_exists_or_is_used(path):
    """A misspelt key would be taken in silence, and a position in a list would change its meaning with the list."""
    known = {key for path in CONFIGS.glob("[!m]*.json") for key in ids(json.loads(path.read_text()))}
    known |= ids(METADATA)
    text = path.read_text()
    for key in yaml.safe_load(text):
        name = key.removeprefix("+")
        parent = name.rpartition("#")[0]
        used = f"@{name}" in text or parent in known or name in ("finalize", "spatial_dims")
        assert name in known or used, key
    assert not re.search(r"(#|::)\d+(#|::|\W|$)|@[\w#]+\[-?\d*:?-?\d*\]", text)


@pytest.mark.parametrize("folder", ["docs", "entries/polyps", "entries/skin_lesions", "entries/volumes"])
def test_model_cards_have_the_sections_of_the_zoos_template(folder):
    card = (ROOT / "bundle" / folder / "README.md").read_text()
    assert not card.startswith("---")  # the hub's front matter is added by push_to_hf_hub
    sections = [line.lstrip("# ").lower() for line in card.splitlines() if line.startswith("#")]
    expected = [
        "model overview", "intended use", "data", "preprocessing", "training configuration", "input", "output",
        "performance", "limitations", "monai bundle commands", "references", "license",
    ]  # fmt: skip
    assert [section for section in sections if section in expected] == expected


def test_a_federated_client_of_monai_takes_the_bundle_as_it_is(tmp_path):
    bundle = shutil.copytree(CONFIGS.parent, tmp_path / "bundle", ignore=shutil.ignore_patterns("models"))
    draw_pairs(tmp_path / "data", 5)
    options = {"dataset_dir": str(tmp_path / "data"), **TINY}
    algo = MonaiAlgo(str(bundle), train_kwargs=dict(options), eval_kwargs=dict(options))
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site-1"})
    start = UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict()
    for epoch in (1, 2):  # a schedule over the one epoch of a round would be at 0 after the first
        algo.train(ExchangeObject(weights={key: value.clone() for key, value in start.items()}))
        assert algo.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.001 * (1 - epoch / 30) ** 0.9)
    trained = algo.trainer.network.state_dict()["heads.0.weight"]
    sent = algo.get_weights().weights["heads.0.weight"]
    assert sent.abs().max() > 0
    torch.testing.assert_close(start["heads.0.weight"] + sent, trained)
    assert "val_mean_dice" in algo.evaluate(ExchangeObject(weights=start)).metrics
