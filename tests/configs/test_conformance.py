# SPDX-License-Identifier: Apache-2.0
"""What the model zoo's checks ask of a bundle; each check is shown to fail on a bundle that breaks it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

import unetv2_monai
from unetv2_monai import UNetV2

from ..conftest import ROOT
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, INFERENCE, TINY, TRAIN

SCHEMA = ROOT / "tests" / "configs" / "metadata_schema.json"
METADATA = json.loads((CONFIGS / "metadata.json").read_text())


@pytest.fixture
def configs(tmp_path) -> Path:
    """A copy of the configs, to be broken."""
    return Path(shutil.copytree(CONFIGS, tmp_path / "bundle" / "configs"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_files():
    bundle = CONFIGS.parent
    assert "Apache License" in (bundle / "LICENSE").read_text()
    for name in ("metadata", "train", "evaluate", "inference", "multi_gpu_train", "multi_gpu_evaluate"):
        json.loads((CONFIGS / f"{name}.json").read_text())
    assert (CONFIGS / "logging.conf").is_file()
    assert (bundle / "docs" / "README.md").is_file()
    assert (bundle / "docs" / "data_license.txt").is_file()
    large = [path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size > 25e6]
    assert not large


def check_metadata(configs: Path, tmp_path: Path) -> None:
    verify_metadata(str(configs / "metadata.json"), filepath=shutil.copy(SCHEMA, tmp_path / "schema.json"))


def test_metadata_fits_the_schema(tmp_path):
    check_metadata(CONFIGS, tmp_path)
    assert METADATA["schema"].endswith("meta_schema_20240725.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"num_channels": 3', '"num_channels": "3"'),
        ('"required_packages_version"', '"packages"'),
        ('"references": [', '"references": [1, '),
        ('"version": "0', '"version": "v0'),
    ],
)
def test_broken_metadata_is_found(old, new, configs, tmp_path):
    change(configs / "metadata.json", old, new)
    with pytest.raises(ValueError, match="against schema"):
        check_metadata(configs, tmp_path)


def test_metadata_says_what_zoo_and_monai_label_read():
    assert METADATA["version"] == unetv2_monai.__version__
    assert METADATA["version"] in METADATA["changelog"]
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == METADATA["version"]
    formats = METADATA["network_data_format"]
    assert next(iter(formats["inputs"])) == "image"
    assert next(iter(formats["outputs"])) == "pred"
    assert list(formats["outputs"]["pred"]["channel_def"]) == ["0", "1"]
    for key in ("references", "intended_use", "data_source", "name"):
        assert METADATA[key]
    # plain numbers, as the zoo installs them; monai's is compared as a string
    versions = METADATA["required_packages_version"]
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in versions.values())
    required = re.findall(r"^([a-z-]+)>=", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    own = {"monai", "torch", "numpy"}  # have keys of their own
    assert set(versions) == set(required) - own


def test_network_takes_and_gives_what_the_metadata_says(tmp_path):
    for device in ["cpu"] + ["cuda:0"] * torch.cuda.is_available():
        verify_net_in_out("network_def", str(CONFIGS / "metadata.json"), INFERENCE[0], device=device)


@pytest.mark.parametrize(("old", "new"), [('"num_channels": 1', '"num_channels": 2'), ('"float32"', '"float64"')])
def test_a_network_that_does_not_is_found(old, new, configs):
    change(configs / "metadata.json", old, new)
    with pytest.raises((ValueError, RuntimeError)):
        verify_net_in_out("network_def", str(configs / "metadata.json"), INFERENCE[0], device="cpu")


def properties(files: list[str], kind: str, pairs: Path, out: Path) -> list[str] | None:
    (out / "models").mkdir(parents=True)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), out / "models" / "model.pt")
    weights = {"checkpoint": str(out / "models" / "model.pt")} if kind == "inference" else {}
    flow = ConfigWorkflow(
        files, workflow_type=kind, dataset_dir=str(pairs), bundle_root=str(out), output_dir=str(out), **weights, **TINY
    )
    flow.initialize()
    return flow.check_properties()


@pytest.mark.parametrize(
    ("files", "kind"),
    [(TRAIN, "train"), (EVALUATE, "train"), (INFERENCE, "inference")],
    ids=["train", "evaluate", "inference"],
)
def test_properties(files, kind, pairs, tmp_path):
    assert properties(files, kind, pairs, tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("train", '"interval": "@val_interval"', '"interval": "@batch_size"', "val_interval"),
        ("train", '"key_val_metric": "@validate#key_metric"', '"key_val_metric": "$@validate#key_metric"', None),
        ("inference", '"postprocessing": "@postprocessing"', '"postprocessing": "@preprocessing"', "postprocessing"),
    ],
)
def test_broken_properties_are_found(name, old, new, found, configs, pairs, tmp_path):
    change(configs / f"{name}.json", old, new)
    missing = properties([str(configs / f"{name}.json")], name, pairs, tmp_path / "out")
    assert missing == ([found] if found else [])


def ids(config: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in config.items():
        found |= {f"{prefix}{key}"} | (ids(value, f"{prefix}{key}#") if isinstance(value, dict) else set())
    return found


def test_keys_that_reviewers_expect():
    """The names of the zoo's contribution guide."""
    train, inference = (ConfigParser.load_config_file(files[0]) for files in (TRAIN, INFERENCE))
    parts = ("preprocessing", "postprocessing", "inferer", "key_metric", "handlers", "dataset", "dataset#data")
    expected = {f"{part}#{key}" for part in ("train", "validate") for key in parts}
    expected |= {"bundle_root", "device", "dataset_dir", "output_dir"}
    expected |= {"train#trainer", "train#trainer#max_epochs", "validate#evaluator"}
    assert expected <= ids(train)
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir"} <= ids(inference)
    assert train["bundle_root"] == inference["bundle_root"] == "."


def test_no_path_of_a_person_in_any_config():
    for path in CONFIGS.rglob("*.*"):
        assert not re.search(r"/(home|root|Users|work|workspace|tmp)/|[A-Z]:\\\\", path.read_text()), path


def test_overlays_are_mappings_of_keys_that_exist_or_are_used():
    """A misspelt key of an overlay would be taken in silence."""
    base = {name: ConfigParser.load_config_file(str(CONFIGS / f"{name}.json")) for name in ("train", "inference")}
    known = ids(base["train"]) | ids(base["inference"]) | ids(json.loads((CONFIGS / "evaluate.json").read_text()))
    known |= ids(METADATA)
    paths = [*CONFIGS.glob("multi_gpu_*.json"), *CONFIGS.glob("recipes/*.yaml"), *CONFIGS.glob("options/*.yaml")]
    assert len(paths) > 8
    for path in paths:
        overlay = yaml.safe_load(path.read_text())
        text = path.read_text()
        for key in overlay:
            name = re.sub(r"#\d+(?=#|$)", "", key.removeprefix("+"))  # an entry of a list
            parent = name.rpartition("#")[0]
            used = f"@{name}" in text or parent in known or name in ("finalize", "spatial_dims")
            assert name in known or used, f"{path.name}: {key}"


def test_torchscript_by_scripting(tmp_path):
    """As the zoo's ckpt_export check: no trace."""
    net = UNetV2(backbone=DEFAULT_BACKBONE).eval()
    torch.save(net.state_dict(), tmp_path / "model.pt")
    ckpt_export(
        net_id="network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"), config_file=INFERENCE[0],
    )  # fmt: skip
    extra = {"inference.json": "", "metadata.json": ""}
    loaded = torch.jit.load(tmp_path / "model.ts", _extra_files=extra).eval()
    assert json.loads(extra["metadata.json"])["version"] == METADATA["version"]
    assert json.loads(extra["inference.json"]) == json.loads((CONFIGS / "inference.json").read_text())
    x = torch.rand(2, 3, 70, 101)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), net(x), rtol=1e-4, atol=1e-4)
