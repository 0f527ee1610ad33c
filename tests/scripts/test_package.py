# SPDX-License-Identifier: Apache-2.0
"""What scripts/package_bundle.py makes of weights of the user. The entries are tested in test_entries.py."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from common import exports
from common.bundle import CONFIGS
from common.exports import Format
from common.packing import copy_bundle

from unetv2_monai import InputError, UNetV2, __version__
from unetv2_monai.core.description import KEY, Description
from unetv2_monai.core.files import sha256_of
from unetv2_monai.networks import with_options

from ..conftest import ROOT, script
from ..support.exported import exports_onnx
from ..support.packages import MODELS, NAME, metadata_of, pack, packed
from ..support.segmenting import compare_with_bundle
from ..support.workflow import INFERENCE, cases


def config_of(bundle: Path, name: str) -> dict:
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def pack_own(folder: Path, network: torch.nn.Module, *arguments: str, **options: bool) -> Path:
    torch.save(network.state_dict(), folder / "model.pt")
    pack("--checkpoint", folder / "model.pt", "--output_dir", folder / "dist", *arguments, **options)
    (bundle,) = (folder / "dist").glob("*/*/configs")
    return bundle.parent


def test_contents_and_checksums(unpacked):
    assert unpacked.name == NAME
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    source = {
        path.relative_to(root).as_posix()
        for root, folder in ((ROOT / "bundle", ROOT / "bundle"), (ROOT, ROOT / "unetv2_monai"))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not {"entries", "models", "output"} & {*path.parts}
    }
    backbone = json.loads((CONFIGS / "train.json").read_text())["backbone"]
    encoder = {f"models/{path.name}" for path in MODELS.glob(f"{backbone}.*")}
    assert files == source | encoder | {"models/model.pt", "requirements.txt", "SHA256SUMS"}
    lines = (unpacked / "SHA256SUMS").read_text().splitlines()
    assert {*lines} == {f"{sha256_of(unpacked / name)}  {name}" for name in files - {"SHA256SUMS"}}


def test_same_weights_same_bytes(package, tmp_path):
    """Also from a checkpoint of a whole run, of which the weights alone are packed."""
    weights = torch.load(package / "model.pt", weights_only=True)
    torch.save({"model": weights, "optimizer": {"state": {}}}, tmp_path / "last.pt")
    (first,) = package.glob("*.zip")
    assert first.name == f"{NAME}_v{__version__}.zip"
    for checkpoint in (package / "model.pt", tmp_path / "last.pt"):
        out = tmp_path / checkpoint.stem
        pack("--checkpoint", checkpoint, "--output_dir", out)
        assert (out / first.name).read_bytes() == first.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_weights_elsewhere(package, tmp_path):
    url = "https://example.org/model.pt"
    pack("--checkpoint", package / "model.pt", "--output_dir", tmp_path, "--weights_url", url)
    (entry,) = yaml.safe_load((packed(tmp_path) / "large_files.yml").read_text())["large_files"]
    assert entry["hash_val"] == sha256_of(packed(tmp_path).parent / "model.pt")
    assert (entry["path"], entry["url"], entry["hash_type"]) == ("models/model.pt", url, "sha256")
    with zipfile.ZipFile(tmp_path / f"{NAME}_v{__version__}.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pt")]


def test_options_that_the_weights_need(tmp_path):
    network = UNetV2(backbone="pvt_v2_b1", out_channels=3, channels=16)
    options = "backbone=pvt_v2_b1", "out_channels=3", "image_size=[288, 384]", "network_def#channels=16"
    bundle = pack_own(tmp_path, network, "--set", *options)
    for name in ("train", "inference"):
        config = config_of(bundle, name)
        assert (config["backbone"], config["out_channels"], config["image_size"]) == ("pvt_v2_b1", 3, [288, 384])
        assert config["network_def"]["channels"] == 16
    formats = metadata_of(bundle)["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [288, 384]
    assert formats["outputs"]["pred"]["num_channels"] == len(formats["outputs"]["pred"]["channel_def"]) == 3


def test_what_a_package_of_own_volumes_says(tmp_path):
    copy_bundle(tmp_path / "own", {"out_channels": 1, "in_channels": 2, "intensity": "ct"}, "volumes")
    metadata = metadata_of(tmp_path / "own")
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert (image["num_channels"], list(image["channel_def"]), image["modality"]) == (2, ["0", "1"], "CT")
    assert (pred["num_channels"], pred["channel_def"]) == (1, {"0": "background", "1": "lesion"})
    assert metadata["label_classes"] == metadata["pred_classes"] == "0 background, 1 lesion"


def test_weights_of_own_volumes_are_not_those_of_the_hippocampus(tmp_path, monkeypatch):
    module = script("package_bundle")
    state = with_options({}, {"spatial_dims": 3, "out_channels": 3})
    torch.save(state, tmp_path / "model.pt")
    monkeypatch.setattr(module, "pack", lambda entry, *_: entries.append(entry) or tmp_path / "model.pt")
    entries: list = []
    module.main(["--checkpoint", str(tmp_path / "model.pt")])
    copy_bundle(tmp_path / "own", entries[0].options, entries[0].recipe)
    metadata = metadata_of(tmp_path / "own")
    assert metadata["pred_classes"] == "0 background, 1 class_1, 2 class_2"
    assert (metadata["task"], metadata["data_type"]) == ("Segmentation of structures in volumes", "NIfTI")


def test_own_weights_have_no_scores_and_claim_no_data(package):
    card = (packed(package) / "docs" / "README.md").read_text()
    assert metadata_of(packed(package))["eval_metrics"] == {}
    assert "no stored scores" in card
    assert not [name for name in ("95 %", "Kvasir", "ClinicDB", "ISIC", "Decathlon", "ImageNet-1k") if name in card]


def test_recipe_that_the_weights_were_trained_with(tmp_path):
    bundle = pack_own(tmp_path, UNetV2(backbone="pvt_v2_b2", attention="spatial_first"), "--recipe", "paper")
    train, inference = (config_of(bundle, name) for name in ("train", "inference"))
    assert train["optimizer"]["_target_"] == "torch.optim.Adam"
    for config in (train, inference):
        assert (config["backbone"], config["image_size"]) == ("pvt_v2_b2", [352, 352])
        assert config["network_def"]["attention"] == "spatial_first"
    assert not any("#" in key for key in (*train, *inference))
    assert metadata_of(bundle)["network_data_format"]["inputs"]["image"]["spatial_shape"] == [352, 352]


@pytest.mark.parametrize(("arguments", "message"), cases("package", "refused"))
def test_nothing_is_left_of_a_package_that_fails(arguments, message, package, tmp_path, monkeypatch):
    monkeypatch.chdir(package)
    with pytest.raises(InputError, match=re.escape(message)):
        pack("--output_dir", tmp_path, *arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@exports_onnx
def test_the_shipped_onnx_file(tmp_path):
    """Twice the same bytes, which tell nothing of this machine, and the masks of `run inference` with model.pt."""
    openvino = pytest.importorskip("openvino")
    for name in ("one", "two"):
        pack("--entry", "polyps", "--output_dir", tmp_path / name, onnx=True)
    one, two = (packed(tmp_path / name, "unetv2_polyp_segmentation") for name in ("one", "two"))
    assert (one / "models" / "model.onnx").read_bytes() == (two / "models" / "model.onnx").read_bytes()
    assert max(path.stat().st_size for path in one.rglob("*") if path.is_file()) < 25e6  # the model zoo's limit
    script("make_demo_data").main([str(tmp_path / "drawn"), "--train", "0", "--test", "6"])
    images, weights = tmp_path / "drawn" / "test" / "images", one / "models" / "model.pt"
    file = weights.with_suffix(".onnx")
    assert compare_with_bundle(file, images, tmp_path, INFERENCE, checkpoint=str(weights))
    said = openvino.Core().read_model(file).get_rt_info(["framework", KEY]).astype(str)
    assert Description.from_json(said).weights_sha256 == sha256_of(weights)
    assert f"{sha256_of(file)}  models/model.onnx" in (one / "SHA256SUMS").read_text()
    assert str(ROOT).encode() not in file.read_bytes()


@pytest.fixture
def described(monkeypatch) -> list[Description]:
    """What ONNX files of packages would say about themselves; none is written."""
    said: list[Description] = []
    monkeypatch.setattr(Format, "missing_packages", lambda self: [])
    monkeypatch.setattr(exports, "write_onnx", lambda network, description, target: said.append(description))
    return said


def test_the_onnx_file_describes_the_packed_config(described, package, tmp_path):
    pack("--checkpoint", package / "model.pt", "--output_dir", tmp_path, "--entry", "polyps",
        "--set", "transforms#normalize#subtrahend=[1, 2, 3]",
        "transforms#normalize#divisor=[4, 5, 6]", "transforms#threshold#low=0.3",
        "certainty=0.9", "image_size=[64, 96]", onnx=True,
    )  # fmt: skip
    (said,) = described
    assert (said.mean, said.std, said.threshold, said.certainty) == ((1, 2, 3), (4, 5, 6), 0.3, 0.9)
    assert (said.classes, said.image_size) == (("background", "polyp"), (64, 96))


def test_why_there_is_no_onnx_file(described, package, tmp_path, monkeypatch, capsys):
    """Each image has its own normalisation, or a package is missing."""
    pack_own(tmp_path, UNetV2(backbone="pvt_v2_b2"), "--recipe", "released_isic", onnx=True)
    assert described == []
    reason = "packed without models/model.onnx: transforms#normalize of inference.json has no subtrahend and divisor"
    assert reason in capsys.readouterr().out
    monkeypatch.setattr(Format, "missing_packages", lambda self: ["onnx"])
    pack("--checkpoint", package / "model.pt", "--output_dir", tmp_path, onnx=True)
    assert "packed without models/model.onnx: pip install onnx" in capsys.readouterr().out
