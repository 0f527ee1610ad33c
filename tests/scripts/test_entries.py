# SPDX-License-Identifier: Apache-2.0
"""The entries of bundle/entries: their packages, and the scores that their cards and metadata name."""

import hashlib
import json
import re
import shutil
import statistics
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from common.packing import copy_bundle, new_network
from monai.bundle import load, verify_metadata, verify_net_in_out

from unetv2_monai import InputError, __version__, entries
from unetv2_monai.handlers.score_table import group_name, score_cells

from ..conftest import ROOT, read_table
from ..data.folders import write_volume
from ..support.packages import metadata_of, pack, packed
from ..support.workflow import INFERENCE, cases, overlays, run

KEYS = ["polyps", "skin_lesions", "volumes"]
HIPPOCAMPUS = "unetv2_hippocampus_segmentation"
NAMES = [HIPPOCAMPUS, "unetv2_polyp_segmentation", "unetv2_skin_lesion_segmentation"]
SCHEMA = ROOT / "tests" / "configs" / "metadata_schema.json"


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pack("--output_dir", folder)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """A package of the entry ``volumes`` with random weights that find every class in noise."""
    folder = tmp_path_factory.mktemp("volumes")
    copy_bundle(folder / "bundle", {}, "volumes")
    torch.manual_seed(2)
    network = new_network(folder / "bundle" / "configs").eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 40, 56, 40))
        network.heads[0].bias.sub_(logits.mean((0, 2, 3, 4)))
    torch.save(network.state_dict(), folder / "model.pt")
    pack("--checkpoint", folder / "model.pt", "--entry", "volumes", "--output_dir", folder)
    return packed(folder, HIPPOCAMPUS)


@pytest.fixture(params=KEYS)
def key(request) -> str:
    return request.param


@pytest.fixture
def entry(key) -> entries.Entry:
    return entries.read_entry(key)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_metadata_of_an_entry(key, entry, dist, tmp_path):
    assert entries.entry_keys() == KEYS
    assert sorted(path.name for path in dist.glob("*.zip")) == [f"{name}_v{__version__}.zip" for name in NAMES]
    configs = packed(dist, entry.name) / "configs"
    verify_metadata(str(configs / "metadata.json"), filepath=shutil.copy(SCHEMA, tmp_path / "schema.json"))
    for device in ["cpu"] + ["cuda:0"] * torch.cuda.is_available():
        verify_net_in_out("network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device=device)
    metadata = metadata_of(packed(dist, entry.name))
    assert metadata["name"] == entry.metadata["name"]
    assert metadata["eval_metrics"] == entry.eval_metrics
    classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert classes == dict(zip("012", ["background", *cases("entries", "classes")[key]]))
    assert not [name for name in metadata if "#" in name or name.startswith("+")]


def test_the_card_is_that_of_the_entry(key, entry, dist):
    """It agrees with what is packed (intended use, references, terms, defaults, size) and names its own data alone."""
    bundle = packed(dist, entry.name)
    card, terms = ((bundle / "docs" / name).read_text() for name in ("README.md", "data_license.txt"))
    assert card == (entry.folder / "README.md").read_text()
    has, lacks = (cases("entries", kind)[key] for kind in ("words", "others"))
    for text in (card, terms):
        assert [word for word in has if word not in text] == []
        assert [word for word in lacks if word in text] == []
    metadata, said = metadata_of(bundle), in_one_line(card)
    assert metadata["intended_use"] in said
    assert all(f"[{number}] {text}" in said for number, text in enumerate(metadata["references"], 1))
    cites = re.findall(r"Cite: (.*?) Page: (\S+)", in_one_line(terms))
    assert cites
    assert all(text in metadata["references"] and page in card for text, page in cites)
    assert f'load("{entry.name}"' in card
    train = json.loads((bundle / "configs" / "train.json").read_text())
    for option in ("backbone", "image_size", "max_epochs", "batch_size", "learning_rate"):
        value = "monai.networks.nets.segresnet_ds.SegResEncoder" if train[option] == "@encoder" else train[option]
        assert f"| `{option}` | `{value}` |" in card
    assert f"| optimiser | `{train['optimizer']['_target_']}` |" in card
    count = sum(parameter.numel() for parameter in new_network(bundle / "configs").parameters())
    assert f"{count / 1e6:.1f} million parameters" in card
    for encoder in bundle.glob("models/*.safetensors"):
        assert f"`models/{encoder.name}`" in card
        assert "ImageNet-1k" in terms


def test_scores_of_an_entry_are_those_of_the_stored_evaluation(key, entry):
    """Its card and its metadata, the shipped weights, the summary, and the scores per image beside it."""
    assert hashlib.sha256(entry.weights.read_bytes()).hexdigest() == entry.sha256
    card, metrics, means = (entry.folder / "README.md").read_text(), {}, ["dice", "iou"]
    titles = ["Dice", "IoU", "pooled Dice", "HD95", "lesions missed"]
    if key == "volumes":
        means, titles = [*means, "surface_dice"], [*titles, "surface Dice"]
    for title, folder, name in [row for of, *row in cases("entries", "sets") if of == key]:
        one = json.loads((ROOT / "docs" / "results" / folder / "summary.json").read_text())[name]
        prefix = re.sub(r"\W+", "_", title.lower())
        cells = [title, str(one["images"]), *(score_cells(one)[score] for score in titles)]
        assert f"| {' | '.join(cells)} |" in card
        rows = read_table(ROOT / "docs" / "results" / folder / "scores.csv")
        rows = [row for row in rows if name in (row["dataset"], group_name(row, True))]
        assert len(rows) == one["images"]
        for score in means:
            metrics[f"{prefix}_mean_{score}"] = mean = round(one[score]["mean"], 4)
            assert mean == pytest.approx(statistics.mean(float(row[score]) for row in rows), abs=6e-5)
        tp, fp, fn = (sum(float(row[count]) for row in rows) for count in ("tp", "fp", "fn"))
        metrics[f"{prefix}_pooled_dice"] = pooled = round(one["pooled"]["dice"], 4)
        assert pooled == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=6e-5)
        metrics[f"{prefix}_lesions_missed"] = one["missed"]
    assert entry.eval_metrics == metrics


def test_every_entry_has_its_own_weights(entry, dist, tmp_path, monkeypatch):
    """By MONAI's own loader. The model zoo takes files of up to 25 MB."""
    assert entry.weights.stat().st_size <= 25e6
    expected = torch.load(entry.weights, weights_only=True)
    monkeypatch.chdir(tmp_path)
    bundle = packed(dist, entry.name)
    loaded = load(entry.name, bundle_dir=str(bundle.parent), device="cpu").state_dict()
    torch.testing.assert_close(loaded, dict(expected), rtol=0, atol=0)


def test_a_packed_volume_network_runs_as_it_is(volumes, tmp_path, monkeypatch):
    """Without overlays and options, on a turned volume larger than a window: as the bundle with the recipe."""
    values = np.random.default_rng(0).normal(70, 9, (40, 30, 70)).astype(np.float32)  # axes: anterior, left, inferior
    affine = np.array([[0, -1.2, 0, 9], [0.9, 0, 0, -4], [0, 0, -1, 33], [0, 0, 0, 1.0]])
    write_volume(tmp_path / "in" / "turned.nii.gz", values, affine)
    monkeypatch.chdir(tmp_path)
    flow = run([str(volumes / "configs" / "inference.json")], "inference", dataset_dir="in")
    assert flow.check_properties() == []
    options = {"dataset_dir": "in", "output_dir": "expected", "checkpoint": volumes / "models" / "model.pt"}
    run([*INFERENCE, *overlays("recipes/volumes")], "inference", **options)
    label, expected = (nibabel.load(f"{folder}/turned.nii.gz") for folder in ("output/masks", "expected"))
    assert (label.shape, label.get_data_dtype()) == (values.shape, np.uint8)
    np.testing.assert_allclose(label.affine, affine, atol=1e-6)
    assert np.bincount(np.ravel(label.dataobj)).max() < 0.99 * values.size  # several classes
    np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(expected.dataobj))


@pytest.fixture
def skin_alone(tmp_path, monkeypatch) -> Path:
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundle" / "entries", bundle / "entries")
    (bundle / "models").mkdir()
    shutil.copy(entries.read_entry("skin_lesions").weights, bundle / "models")
    monkeypatch.setattr(entries, "bundle_dir", lambda: bundle)
    return bundle


def test_an_entry_without_weights_is_left_out(skin_alone, tmp_path, capsys):
    pack("--output_dir", tmp_path / "dist")
    assert capsys.readouterr().out.startswith("left out: polyps, since there is no bundle/models/model.pt\n")
    (archive,) = (tmp_path / "dist").glob("*.zip")
    assert archive.name == f"unetv2_skin_lesion_segmentation_v{__version__}.zip"
    with pytest.raises(InputError, match=re.escape(f"no weights at {skin_alone / 'models' / 'model.pt'}")):
        pack("--entry", "polyps", "--output_dir", tmp_path / "none")
    (skin_alone / "models" / "skin_lesions.pt").unlink()
    with pytest.raises(InputError, match="no entry has weights: name your own by --checkpoint"):
        pack("--output_dir", tmp_path / "none")
    assert not list((tmp_path / "none").glob("*"))


def test_scores_go_with_the_weights_that_have_them(skin_alone, tmp_path, capsys):
    """Other weights in the place of an entry's get the general card."""
    (skin_alone / "models" / "skin_lesions.pt").rename(skin_alone / "models" / "model.pt")
    pack("--entry", "polyps", "--output_dir", tmp_path)
    assert "since the stored scores are of other weights" in capsys.readouterr().out
    found = packed(tmp_path, "unetv2_polyp_segmentation")
    assert metadata_of(found)["eval_metrics"] == {}
    assert "no stored scores" in (found / "docs" / "README.md").read_text()
    terms = entries.read_entry("polyps").folder / "data_license.txt"
    assert (found / "docs" / "data_license.txt").read_text() == terms.read_text()
