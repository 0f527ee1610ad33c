# SPDX-License-Identifier: Apache-2.0
"""prepare_polyp and prepare_isic, on data sets drawn here in their published form and on real raw files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, load_datalist

from ..conftest import draw_pair, script
from ..support.workflow import refusal

SECTIONS = ("training", "validation", "test")


def published(folder: Path, images: str, masks: str, names: dict[str, str], kind: str = "png") -> Path:
    """Pairs {name of the image: name of the mask} in folders named as a publisher names them."""
    for seed, (image, mask) in enumerate(names.items()):
        draw_pair(folder / "drawn", image, 48, 40, seed=seed)
        for source, target, name in (("images", images, image), ("masks", masks, mask)):
            (folder / target).mkdir(parents=True, exist_ok=True)
            with Image.open(folder / "drawn" / source / f"{image}.png") as opened:
                opened.save(folder / target / f"{name}.{kind}")
    shutil.rmtree(folder / "drawn")
    return folder


def numbered(count: int, image: str = "{}", mask: str = "") -> dict[str, str]:
    return {image.format(number): (mask or image).format(number) for number in range(1, count + 1)}


def prepare(out: Path, name: str, *arguments: object) -> dict[str, list[dict[str, str]]]:
    """The sections of datalist.json, whose files and what they state of them have been compared."""
    script(name).main([*map(str, arguments), "--output_dir", str(out)])
    content = json.loads((out / "datalist.json").read_text())
    sections = {section: content.get(section, []) for section in SECTIONS}
    for entry in (entry for entries in sections.values() for entry in entries):
        for key in ("image", "label"):
            assert hashlib.sha256((out / entry[key]).read_bytes()).hexdigest() == entry[f"{key}_sha256"]
        assert entry["source"].startswith("http")
        assert entry["licence"]
        with Image.open(out / entry["label"]) as mask:
            assert set(np.unique(np.asarray(mask))) <= {0, 255}  # also where it was JPEG, with noise
    return sections


def test_polyp_in_the_forms_of_their_publishers(tmp_path):
    names = {name: one.get("test") for name, one in script("prepare_polyp").DATASETS.items()}
    kvasir = sorted(names["kvasir"])[:3] + [f"cjx{i}" for i in range(20)]
    published(tmp_path / "kvasir", "images", "masks", {name: name for name in kvasir}, "jpg")
    published(tmp_path / "clinicdb", "Original", "Ground Truth", numbered(50), "tif")
    published(tmp_path / "etis", "ETIS-LaribPolypDB", "Ground Truth", numbered(4, "{}", "p{}"), "tif")
    published(tmp_path / "colondb", "CVC-ColonDB", "GT", numbered(3, "{}", "p{}"), "png")
    published(tmp_path / "cvc300", "CVC-300/bbdd", "CVC-300/gtpolyp", numbered(2), "bmp")
    published(tmp_path / "polypgen_c1", "images_C1", "masks_C1", numbered(30), "jpg")
    published(tmp_path / "polypgen_c4", "images_C4", "masks_C4", numbered(5), "jpg")
    folders = {folder.name: folder for folder in tmp_path.iterdir()}
    command = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    message = refusal(prepare, tmp_path, "prepare_polyp", *command, "--test", "polypgen_c2")
    assert "polypgen_c2, but no folder" in message
    found = prepare(tmp_path / "out", "prepare_polyp", *command, "--test", "polypgen_c4")
    tests = {name: {e["image"] for e in found["test"] if e["dataset"] == name} for name in folders}
    assert tests["kvasir"] == {f"images/kvasir_{name}.jpg" for name in kvasir[:3]}
    # of CVC-ClinicDB, the frames up to 50 that the benchmark tests on
    assert tests["clinicdb"] == {f"images/clinicdb_{name}.tif" for name in {*names["clinicdb"]} & {*numbered(50)}}
    assert [len(tests[name]) for name in ("etis", "colondb", "cvc300", "polypgen_c1", "polypgen_c4")] == [4, 3, 2, 0, 5]
    assert sum(entry["dataset"] == "kvasir" for entry in found["validation"]) == 2
    rest, held = (
        [int(Path(e["image"]).stem.split("_")[1]) for e in found[section] if e["dataset"] == "clinicdb"]
        for section in ("training", "validation")
    )
    assert held
    assert [frame for frame in rest if min(held) < frame < max(held)] == []  # one run of neighbours
    # what training reads
    lists = load_datalist(str(tmp_path / "out"), SECTIONS)
    assert sum(map(len, lists.values())) == len(kvasir) + 50 + 4 + 3 + 2 + 30 + 5
    assert {item["dataset"] for item in lists["test"]} == {*folders} - {"polypgen_c1"}


def test_again_changes_nothing_and_restores_what_was_changed(tmp_path):
    out, source = tmp_path / "out", published(tmp_path / "k", "images", "masks", numbered(12, "a{}"), "jpg")
    command = "prepare_polyp", "--kvasir", source, "--val_fraction", 0.3
    found = prepare(out, *command)
    assert [len(found[section]) for section in SECTIONS] == [8, 4, 0]
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*.*g")}
    first = (out / "datalist.json").read_bytes()
    assert len(files) == 24
    victim = out / "masks" / "kvasir_a3.png"
    victim.write_bytes(b"cut off")  # as by a full disk
    prepare(out, *command)
    assert (out / "datalist.json").read_bytes() == first
    for path, (time, content) in files.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path != victim)
    assert not list(out.rglob("*.partial"))


def test_joint_folder(tmp_path):
    published(tmp_path / "TrainDataset", "image", "masks", {**numbered(20), **numbered(20, "a{}")})
    for name in ("Kvasir", "CVC-300"):
        published(tmp_path / "TestDataset" / name, "images", "masks", numbered(2))
    found = prepare(tmp_path / "out", "prepare_polyp", "--joint", tmp_path)
    assert len(found["training"]) + len(found["validation"]) == 40
    assert {entry["dataset"] for entry in found["training"] + found["validation"]} == {"kvasir", "clinicdb"}
    assert {entry["dataset"] for entry in found["test"]} == {"kvasir", "cvc300"}


def test_problems_are_named_together_and_no_list_is_written(tmp_path):
    source = published(tmp_path / "k", "images", "masks", numbered(4, "a{}"), "jpg")

    def refused(message: str, *arguments: object) -> None:
        with pytest.raises(InputError, match=message):
            prepare(tmp_path / "out", "prepare_polyp", *arguments)
        assert not (tmp_path / "out" / "datalist.json").exists()

    (source / "masks" / "a1.jpg").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(source / "masks" / "a2.jpg")
    refused(r"(?s)a1.*cannot be read.*a2.*mask of 9 x 9, but a2.jpg is 48 x 40", "--kvasir", source)
    (source / "masks" / "a3.jpg").unlink()
    Image.new("L", (9, 9)).save(source / "images" / "a2.png")
    refused(r"(?s)a2.png: same name as a2.jpg.*a3.jpg: image without a mask in .*masks", "--kvasir", source)
    refused(r"no folder of images; looked for Original", "--clinicdb", source / "masks")
    refused("--kvasir .*absent does not exist", "--kvasir", tmp_path / "absent")
    refused("at least one data set")
    refused("at least one data set", "--kvasir", source, "--joint", source)


@pytest.mark.parametrize(("split", "sizes"), [("official", [20, 5, 4]), ("paper", [16, 2, 7])])
def test_isic(split, sizes, tmp_path):
    for number, (part, count) in enumerate({"Training": 20, "Validation": 5, "Test_v2": 4}.items()):
        names = numbered(count, f"ISIC_{number}{{}}", f"ISIC_{number}{{}}_segmentation")
        published(tmp_path / "isic", f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth", names)
    Image.new("RGB", (48, 40)).save(tmp_path / "isic" / "ISIC-2017_Training_Data" / "ISIC_01_superpixels.png")
    found = prepare(tmp_path / "out", "prepare_isic", tmp_path / "isic", "--year", "2017", "--split", split)
    assert [len(found[section]) for section in SECTIONS] == sizes
    images = [entry["image"] for section in SECTIONS for entry in found[section]]
    assert len(set(images)) == sum(sizes)
    assert any("ISIC_2" in image for image in images) == (split == "official")


def test_real_raw_files(real_data, tmp_path):
    folders = "--kvasir", real_data / "raw" / "kvasir-seg", "--clinicdb", real_data / "raw" / "cvc-clinicdb"
    found = prepare(tmp_path / "out", "prepare_polyp", *folders)
    assert sum(map(len, found.values())) == 24
    script("check_data").main(["--dataset_dir", str(tmp_path / "out"), "--output_dir", str(tmp_path / "check")])
    assert "refused" not in json.loads((tmp_path / "check" / "report.json").read_text())["findings"]
