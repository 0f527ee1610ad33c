# SPDX-License-Identifier: Apache-2.0
"""The entries of bundle/entries: packed from random weights, and the scores of those that ship."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from common import entries
from common.cards import read_data_sets
from common.packing import copy_bundle, new_network
from monai.bundle import ConfigWorkflow, ckpt_export, load, verify_metadata, verify_net_in_out
from monai.inferers import sliding_window_inference

from unetv2_monai import InputError, __version__
from unetv2_monai.handlers.score_table import group_name

from ..conftest import ROOT, draw_pair
from ..support.packages import MODELS, TERMS, metadata_of, pack, packed
from ..support.workflow import run

KEYS = ["polyps", "skin_lesions", "volumes"]
HIPPOCAMPUS = "unetv2_hippocampus_segmentation"
SCHEMA = ROOT / "tests" / "configs" / "metadata_schema.json"


def mix_classes(network: torch.nn.Module) -> None:
    """Give each class a part of a volume of noise, by the bias of a head: random weights find one class everywhere."""
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 40, 56, 40))
        next(one for name, one in network.named_parameters() if name == "heads.0.bias").sub_(logits.mean((0, 2, 3, 4)))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Iterator[Path]:
    """Random weights in place of bundle/models."""
    folder = tmp_path_factory.mktemp("models")
    for seed, key in enumerate(KEYS):
        entry = entries.read_entry(key)
        copy_bundle(folder / key, entry.options, entry.recipe)
        torch.manual_seed(seed)
        network = new_network(folder / key / "configs").eval()
        if key == "volumes":
            mix_classes(network)
        torch.save(network.state_dict(), folder / entry.weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "MODELS", folder)
        yield folder


@pytest.fixture(scope="module")
def dist(models, tmp_path_factory) -> Path:
    """All entries, as ``make package`` writes them."""
    folder = tmp_path_factory.mktemp("dist")
    pack("--output_dir", folder)
    return folder


@pytest.fixture(params=KEYS)
def entry(request, dist) -> entries.ZooEntry:
    return entries.read_entry(request.param)


def key_of(entry: entries.ZooEntry) -> str:
    return next(key for key in KEYS if entries.read_entry(key).name == entry.name)


def test_names(dist):
    names = [HIPPOCAMPUS, "unetv2_polyp_segmentation", "unetv2_skin_lesion_segmentation"]
    assert sorted(path.name for path in dist.glob("*.zip")) == [f"{name}_v{__version__}.zip" for name in names]
    assert entries.known_entries() == KEYS
    for name in names:
        assert (packed(dist, name) / "SHA256SUMS").is_file()


def test_metadata_of_an_entry(entry, dist, tmp_path):
    configs = packed(dist, entry.name) / "configs"
    verify_metadata(str(configs / "metadata.json"), filepath=shutil.copy(SCHEMA, tmp_path / "schema.json"))
    verify_net_in_out("network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device="cpu")
    metadata = metadata_of(packed(dist, entry.name))
    assert metadata["name"] == entry.metadata["name"]
    classes = {"volumes": ["background", "anterior", "posterior"], "polyps": ["background", "polyp"]}
    classes["skin_lesions"] = ["background", "skin lesion"]
    found = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert found == dict(zip("012", classes[key_of(entry)]))
    assert not [key for key in metadata if "#" in key or key.startswith("+")]
    cites = [one.cite for name, one in read_data_sets(TERMS)[1].items() if name in entry.data]
    assert cites
    assert [reference for reference in metadata["references"] if reference in cites] == cites


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        (
            "unetv2_polyp_segmentation",
            ["Kvasir-SEG", "CVC-ClinicDB", "research and education"],
            ["CC0", "ISIC", "Decathlon"],
        ),
        (
            "unetv2_skin_lesion_segmentation",
            ["ISIC 2017", "CC0"],
            ["Kvasir", "ClinicDB", "polyp", "with citation", "Decathlon"],
        ),
        (HIPPOCAMPUS, ["Task 04 (hippocampus)", "CC BY-SA 4.0"], ["Kvasir", "ISIC", "polyp", "EfficientNet"]),
    ],
)
def test_card_and_terms_of_an_entry(name, has, lacks, dist):
    docs = packed(dist, name) / "docs"
    card, terms = (docs / "README.md").read_text(), (docs / "data_license.txt").read_text()
    for text in (card, terms):
        assert [word for word in has if word not in text] == []
        assert [word for word in lacks if word in text] == []
    assert terms.startswith("This bundle contains no images.")


def test_card_says_what_is_packed(entry, dist):
    bundle = packed(dist, entry.name)
    card = (bundle / "docs" / "README.md").read_text()
    train = json.loads((bundle / "configs" / "train.json").read_text())
    for key in ("backbone", "image_size", "learning_rate"):
        value = "monai.networks.nets.segresnet_ds.SegResEncoder" if train[key] == "@encoder" else train[key]
        assert f"| `{key}` | `{value}` |" in card
    metadata = metadata_of(bundle)
    assert metadata["intended_use"] in card
    assert [f"[{n}] {text}" in card for n, text in enumerate(metadata["references"], 1)] == [True] * len(
        metadata["references"]
    )
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    names = {name for name, _ in new_network(bundle / "configs").named_parameters()}
    millions = sum(value.numel() for name, value in weights.items() if name in names) / 1e6
    assert f"{millions:.1f} million parameters" in card


def test_an_entry_by_itself_gives_the_same_bytes(dist, tmp_path):
    pack("--entry", "skin_lesions", "--output_dir", tmp_path)
    (archive,) = tmp_path.glob("*.zip")
    assert archive.read_bytes() == (dist / archive.name).read_bytes()


def test_every_entry_has_its_own_weights(entry, models, dist, pairs, tmp_path, monkeypatch):
    """By MONAI's own loader, and by a run from another folder."""
    expected = torch.load(models / entry.weights, weights_only=True)
    monkeypatch.chdir(tmp_path)
    bundle = packed(dist, entry.name)
    loaded = load(entry.name, bundle_dir=str(bundle.parent), device="cpu").state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    if key_of(entry) == "volumes":
        return  # their run: test_a_packed_volume_network_runs_as_it_is
    draw_pair(tmp_path / "one", "case", 50, 40)
    run([str(bundle / "configs" / "inference.json")], "inference", dataset_dir="one", image_size=32, output_dir="masks")
    assert [path.name for path in Path("masks").iterdir()] == ["case.png"]


def test_a_packed_volume_network_runs_as_it_is(models, dist, tmp_path, monkeypatch):
    """
    From another folder, without overlays and options: the label of a volume whose axes are turned and which is larger
    than a window, against windows of the network over the volume, turned and normalised here.
    """
    configs = packed(dist, HIPPOCAMPUS) / "configs"
    rng = np.random.default_rng(0)
    values = rng.normal(70, 9, (40, 30, 70)).astype(np.float32)  # axes: anterior, left, inferior
    affine = np.array([[0, -1.2, 0, 9], [0.9, 0, 0, -4], [0, 0, -1, 33], [0, 0, 0, 1.0]])
    (tmp_path / "volumes").mkdir()
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "volumes" / "turned.nii.gz")
    monkeypatch.chdir(tmp_path)
    flow = ConfigWorkflow([str(configs / "inference.json")], workflow_type="inference", dataset_dir="volumes")
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    assert [path.name for path in Path("output", "masks").iterdir()] == ["turned.nii.gz"]  # where the user is
    label = nibabel.load("output/masks/turned.nii.gz")
    assert (label.shape, label.get_data_dtype()) == (values.shape, np.uint8)
    assert nibabel.aff2axcodes(label.affine) == ("A", "L", "I")
    np.testing.assert_allclose(label.affine, affine, atol=1e-6)

    network = load(HIPPOCAMPUS, bundle_dir=str(configs.parents[1]), device="cpu").eval()
    image = (
        torch.from_numpy((values - values.mean()) / values.std()).permute(1, 0, 2).flip(0, 2)
    )  # right, ..., superior
    with torch.no_grad():
        logits = sliding_window_inference(image[None, None], (40, 56, 40), 1, network, overlap=0.25)
    expected = logits[0].argmax(0).flip(0, 2).permute(1, 0, 2).numpy()
    assert np.bincount(expected.ravel()).max() < 0.99 * expected.size  # several classes
    assert (np.asarray(label.dataobj) == expected).mean() > 0.9999


def test_a_package_of_volumes_says_what_it_is(dist):
    bundle = packed(dist, HIPPOCAMPUS)
    card, terms = ((bundle / "docs" / name).read_text() for name in ("README.md", "data_license.txt"))
    assert "1 channel, float32: image. Volumes of any size go through the network in windows of 40 x 56 x 40" in card
    assert "3 channels of logits, float32, of the input's size. Classes: 0 background, 1 anterior, 2 posterior." in card
    assert "| Medical Segmentation Decathlon, Task 04 (hippocampus) | CC BY-SA 4.0 |" in card
    assert "creativecommons.org/licenses/by-sa/4.0" in terms
    assert not (bundle / "models" / "model.onnx").exists()
    assert "This package has no `models/model.onnx`" in card


@pytest.mark.slow
def test_torchscript_of_a_package_of_volumes(dist, tmp_path):
    """As the card says to export it: the labels of inference.json."""
    bundle = packed(dist, HIPPOCAMPUS)
    configs = bundle / "configs"
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).normal(70, 9, (30, 40, 50)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "in" / "one.nii.gz")
    script = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def", filepath=str(script), ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(configs / "metadata.json"), config_file=str(configs / "inference.json"),
    )  # fmt: skip
    files = [str(configs / "inference.json"), str(configs / "options" / "inference_torchscript.yaml")]
    run(files[:1], "inference", dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "a"))
    run(files, "inference", dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "b"), checkpoint=str(script))
    a, b = (np.asarray(nibabel.load(tmp_path / name / "one.nii.gz").dataobj) for name in "ab")
    assert len(np.unique(a)) > 1
    assert (a == b).mean() > 0.9999


def test_an_entry_without_weights_is_left_out(models, tmp_path, monkeypatch, capsys):
    shutil.copy(models / "skin_lesions.pt", tmp_path)
    monkeypatch.setattr(entries, "MODELS", tmp_path)
    pack("--output_dir", tmp_path / "dist")
    assert capsys.readouterr().out.startswith("left out: polyps, since there is no bundle/models/model.pt\n")
    (archive,) = (tmp_path / "dist").glob("*.zip")
    assert archive.name == f"unetv2_skin_lesion_segmentation_v{__version__}.zip"
    with pytest.raises(InputError, match=re.escape(f"no weights at {tmp_path / 'model.pt'}")):
        pack("--entry", "polyps", "--output_dir", tmp_path / "none")
    (tmp_path / "skin_lesions.pt").unlink()
    with pytest.raises(InputError, match="no entry has weights: name your own by --checkpoint"):
        pack("--output_dir", tmp_path / "none")
    assert not list((tmp_path / "none").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "image_size=352"], "--set and --recipe are for weights of your own"),
        (["--weights_url", "https://example.org/model.pt"], "choose a package by --entry or --checkpoint"),
    ],
)
def test_options_of_one_package(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        pack("--output_dir", tmp_path, *arguments)
    assert not any(tmp_path.iterdir())


def test_scores_go_with_the_weights_that_have_them(models, dist, tmp_path, monkeypatch):
    """Those of an entry are stored with the SHA-256 of its weights: here it gets that of the random ones."""
    name = entries.read_entry("polyps").name
    assert metadata_of(packed(dist, name))["eval_metrics"] == {}

    summary = json.loads((ROOT / "tests" / "golden" / "summary.json").read_text())
    summary["clinicdb"]["lesion_free"] = {"images": 60, "left_empty": 41}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shutil.copytree(entries.ENTRIES, tmp_path / "entries")
    path = tmp_path / "entries" / "polyps" / "entry.yaml"
    content = yaml.safe_load(path.read_text())
    content["scores"] = {
        "sha256": hashlib.sha256((models / "model.pt").read_bytes()).hexdigest(),
        "sets": {"Kvasir-SEG": f"{tmp_path}/summary.json#kvasir", "Poly Gen": f"{tmp_path}/summary.json#clinicdb"},
    }
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(entries, "ENTRIES", tmp_path / "entries")
    pack("--entry", "polyps", "--output_dir", tmp_path)
    assert metadata_of(packed(tmp_path, name))["eval_metrics"] == {
        "kvasir_seg_mean_dice": 0.8833, "kvasir_seg_mean_iou": 0.8162, "kvasir_seg_pooled_dice": 0.8790,
        "kvasir_seg_lesions_missed": 0,
        "poly_gen_mean_dice": 0.8612, "poly_gen_mean_iou": 0.7974, "poly_gen_pooled_dice": 0.8812,
        "poly_gen_lesions_missed": 2, "poly_gen_lesion_free_images": 60, "poly_gen_lesion_free_left_empty": 41,
    }  # fmt: skip
    card = (packed(tmp_path, name) / "docs" / "README.md").read_text()
    assert "| Kvasir-SEG | 100 | 0.883 [0.853, 0.911] | 0.816 [0.777, 0.851] |" in card
    assert "| 2 | 41 of 60 |" in card
    assert "no stored scores" not in card

    own = ["--checkpoint", models / "model.pt", "--entry", "polyps", "--output_dir", tmp_path / "own"]
    pack(*own)  # whatever weights are named by --checkpoint
    assert metadata_of(packed(tmp_path / "own", name))["eval_metrics"] == {}
    assert "Kvasir-SEG" in (packed(tmp_path / "own", name) / "docs" / "data_license.txt").read_text()


def test_errors_in_an_entry(models, tmp_path, monkeypatch):
    shutil.copytree(entries.ENTRIES / "skin_lesions", tmp_path / "entries" / "skin_lesions")
    folder = tmp_path / "entries" / "skin_lesions"
    monkeypatch.setattr(entries, "ENTRIES", tmp_path / "entries")
    (folder / "card.md").write_text("## Dta\n\nVolumes.\n")
    with pytest.raises(InputError, match=re.escape("README.md has no section '## Dta' to replace")):
        pack("--output_dir", tmp_path / "none")
    content = yaml.safe_load((folder / "entry.yaml").read_text())
    (folder / "entry.yaml").write_text(yaml.safe_dump({**content, "data": ["Hippocampus"]}))
    with pytest.raises(InputError, match=re.escape("data_license.txt has no data set Hippocampus, but Kvasir-SEG,")):
        pack("--output_dir", tmp_path / "none")


@pytest.mark.parametrize("key", KEYS)
def test_weights_fit_into_the_model_zoo(key):
    """It takes files of up to 25 MB."""
    weights = MODELS / entries.read_entry(key).weights
    assert weights.stat().st_size <= 25e6


@pytest.mark.parametrize("key", KEYS)
def test_stored_scores_are_those_of_the_shipped_weights(key):
    """Read again from the scores per image that are beside the summary, where they are kept."""
    entry = entries.read_entry(key)
    weights = MODELS / entry.weights
    assert entry.scores is not None, f"bundle/entries/{key}/entry.yaml names no scores"
    found = entry.scores.read(weights)
    assert found is not None, f"{weights.name} is not what bundle/entries/{key}/entry.yaml has scores of"
    metrics = entries.eval_metrics(found)
    for title, place in entry.scores.sets.items():
        file, name = place.split("#")
        per_image = (ROOT / file).with_name("scores.csv")
        if per_image.is_file():
            with per_image.open(newline="") as opened:
                rows = [row for row in csv.DictReader(opened) if name in (row["dataset"], group_name(row, True))]
            prefix = title.lower().replace("-", "_").replace(" ", "_")
            for score in ("dice", "iou", *["surface_dice"] * ("surface_dice" in rows[0])):
                mean = statistics.mean(float(row[score]) for row in rows)
                assert metrics[f"{prefix}_mean_{score}"] == pytest.approx(mean, abs=6e-5)
            tp, fp, fn = (sum(float(row[count]) for row in rows) for count in ("tp", "fp", "fn"))
            assert metrics[f"{prefix}_pooled_dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=6e-5)
