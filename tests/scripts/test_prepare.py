# SPDX-License-Identifier: Apache-2.0
"""prepare_polyp and prepare_isic, on data sets drawn here in their published form and on real raw files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, load_datalist

from ..conftest import draw_pair, script


def published(folder: Path, images: str, masks: str, names: dict[str, str], kind: str = "png", **options) -> None:
    """Pairs {name of the image: name of the mask} in folders named as a publisher names them."""
    for seed, (image, mask) in enumerate(names.items()):
        draw_pair(folder / "drawn", image, 48, 40, seed=seed + options.get("seed", 0))
        for source, target, name in (("images", images, image), ("masks", masks, mask)):
            (folder / target).mkdir(parents=True, exist_ok=True)
            with Image.open(folder / "drawn" / source / f"{image}.png") as opened:
                opened.save(folder / target / f"{name}.{kind}")
    shutil.rmtree(folder / "drawn")


def read(folder: Path) -> dict:
    content = json.loads((folder / "datalist.json").read_text())
    for section in ("training", "validation", "test"):
        for entry in content.get(section, []):
            for key in ("image", "label"):
                data = (folder / entry[key]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == entry[f"{key}_sha256"]
            assert entry["source"].startswith("http")
            assert entry["licence"]
    return content


def numbered(count: int, mask: str = "{}") -> dict[str, str]:
    return {str(number): mask.format(number) for number in range(1, count + 1)}


def test_polyp_in_the_forms_of_their_publishers(tmp_path, capsys):
    tool = script("prepare_polyp")
    kvasir = sorted(tool.test_names()["kvasir"])[:3] + [f"cjx{i}" for i in range(20)]
    published(tmp_path / "k", "images", "masks", {name: name for name in kvasir}, "jpg")
    published(tmp_path / "c", "Original", "Ground Truth", numbered(50), "tif")
    published(tmp_path / "e", "ETIS-LaribPolypDB", "Ground Truth", numbered(4, "p{}"), "tif")
    published(tmp_path / "o", "CVC-ColonDB", "GT", numbered(3, "p{}"), "png")
    published(tmp_path / "s", "CVC-300/bbdd", "CVC-300/gtpolyp", numbered(2), "bmp")
    folders = {"kvasir": "k", "clinicdb": "c", "etis": "e", "colondb": "o", "cvc300": "s"}
    command = [part for name, folder in folders.items() for part in (f"--{name}", str(tmp_path / folder))]
    tool.main([*command, "--output_dir", str(tmp_path / "out")])
    content = read(tmp_path / "out")
    tests = {entry["image"] for entry in content["test"]}
    assert {f"images/kvasir_{name}.jpg" for name in kvasir[:3]} <= tests
    # of CVC-ClinicDB, the frames up to 50 that the benchmark tests on
    clinicdb = tool.test_names()["clinicdb"] & set(numbered(50))
    assert {f"images/clinicdb_{name}.tif" for name in clinicdb} == {name for name in tests if "clinicdb" in name}
    assert sum("etis" in name for name in tests) == 4
    assert sum("colondb" in name for name in tests) == 3
    assert sum("cvc300" in name for name in tests) == 2
    held = [entry["image"] for entry in content["validation"]]
    assert sum("kvasir" in name for name in held) == 2
    frames = [int(name.split("_")[1].split(".")[0]) for name in held if "clinicdb" in name]
    rest = [int(e["image"].split("_")[1][:-4]) for e in content["training"] if "clinicdb" in e["image"]]
    inside = [n for n in rest if min(frames) < n < max(frames)]
    assert frames
    assert inside == []  # one run of neighbours
    # what training reads: all masks are clean, though these were JPEG
    lists = load_datalist(str(tmp_path / "out"), ["training", "validation", "test"])
    assert sum(map(len, lists.values())) == len(kvasir) + 50 + 4 + 3 + 2
    assert {item["dataset"] for item in lists["test"]} == set(folders)
    with Image.open(tmp_path / "out" / "masks" / f"kvasir_{kvasir[0]}.png") as mask:
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_again_changes_nothing_and_restores_what_was_changed(tmp_path):
    tool = script("prepare_polyp")
    published(tmp_path / "k", "images", "masks", {f"a{i}": f"a{i}" for i in range(12)}, "jpg")
    command = ["--kvasir", str(tmp_path / "k"), "--output_dir", str(tmp_path / "out")]
    tool.main(command)
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").rglob("*.*g")}
    first = (tmp_path / "out" / "datalist.json").read_bytes()
    assert len(files) == 24
    victim = tmp_path / "out" / "masks" / "kvasir_a3.png"
    victim.write_bytes(b"cut off")  # as by a full disk
    tool.main(command)
    assert (tmp_path / "out" / "datalist.json").read_bytes() == first
    for path, (time, content) in files.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path != victim)
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_kill_in_between_leaves_complete_files(tmp_path, monkeypatch):
    tool = script("prepare_polyp")
    published(tmp_path / "k", "images", "masks", {f"a{i}": f"a{i}" for i in range(12)}, "jpg")
    command = ["--kvasir", str(tmp_path / "k"), "--output_dir", str(tmp_path / "out")]
    written, replace = [], os.replace

    def dying(source, target):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        tool.main(command)
    assert not (tmp_path / "out" / "datalist.json").exists()
    monkeypatch.undo()
    tool.main(command)
    read(tmp_path / "out")
    load_datalist(str(tmp_path / "out"), ["training", "validation"])


def test_joint_folder(tmp_path):
    names = {**numbered(20), **{f"cju{i}": f"cju{i}" for i in range(20)}}
    published(tmp_path / "j" / "TrainDataset", "image", "masks", names)
    for name in ("Kvasir", "CVC-300"):
        published(tmp_path / "j" / "TestDataset" / name, "images", "masks", numbered(2))
    script("prepare_polyp").main(["--joint", str(tmp_path / "j"), "--output_dir", str(tmp_path / "out")])
    content = read(tmp_path / "out")
    assert len(content["training"]) + len(content["validation"]) == 40
    assert {entry["dataset"] for entry in content["test"]} == {"kvasir", "cvc300"}


def test_share_held_out(tmp_path):
    published(tmp_path / "k", "images", "masks", {f"a{i}": f"a{i}" for i in range(20)}, "jpg")
    command = ["--kvasir", str(tmp_path / "k"), "--output_dir", str(tmp_path / "out"), "--val_fraction", "0.3"]
    script("prepare_polyp").main(command)
    content = read(tmp_path / "out")
    assert (len(content["training"]), len(content["validation"])) == (14, 6)


def test_problems_are_named_together_and_no_list_is_written(tmp_path):
    tool = script("prepare_polyp")
    published(tmp_path / "k", "images", "masks", {f"a{i}": f"a{i}" for i in range(4)}, "jpg")
    (tmp_path / "k" / "masks" / "a1.jpg").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(tmp_path / "k" / "masks" / "a2.jpg")
    command = ["--kvasir", str(tmp_path / "k"), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(InputError, match=r"(?s)a1.*cannot be read.*a2.*mask of 9 x 9, but a2.jpg is 48 x 40"):
        tool.main(command)
    assert not (tmp_path / "out" / "datalist.json").exists()
    (tmp_path / "k" / "masks" / "a3.jpg").unlink()
    with pytest.raises(InputError, match=r"a3.jpg: no mask in"):
        tool.main(command)
    with pytest.raises(InputError, match=r"no folder of images; looked for Original"):
        tool.main(["--clinicdb", str(tmp_path / "k" / "masks"), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="at least one data set"):
        tool.main(["--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(("split", "sizes"), [("official", (20, 5, 4)), ("paper", (16, 2, 7))])
def test_isic(split, sizes, tmp_path):
    names = [
        {f"ISIC_{k}{i:03}": f"ISIC_{k}{i:03}_segmentation" for i in range(n)} for k, n in ((0, 20), (1, 5), (2, 4))
    ]
    for part, ending, some in zip(("Training", "Validation", "Test"), ("", "", "_v2"), names):
        root = tmp_path / "isic"
        published(root, f"ISIC-2017_{part}{ending}_Data", f"ISIC-2017_{part}{ending}_Part1_GroundTruth", some)
    Image.new("RGB", (48, 40)).save(tmp_path / "isic" / "ISIC-2017_Training_Data" / "ISIC_0000_superpixels.png")
    script("prepare_isic").main(
        [str(tmp_path / "isic"), "--year", "2017", "--split", split, "--output_dir", str(tmp_path / "out")]
    )
    content = read(tmp_path / "out")
    assert tuple(len(content[section]) for section in ("training", "validation", "test")) == sizes
    images = [entry["image"] for section in ("training", "validation", "test") for entry in content[section]]
    assert len(set(images)) == sum(sizes)
    assert any("ISIC_2" in image for image in images) == (split == "official")


def test_real_raw_files(real_data, tmp_path, capsys):
    """As published: Kvasir-SEG's masks are JPEG with noise."""
    raw = real_data / "raw"
    command = ["--kvasir", str(raw / "kvasir-seg"), "--clinicdb", str(raw / "cvc-clinicdb")]
    script("prepare_polyp").main([*command, "--output_dir", str(tmp_path / "out")])
    content = read(tmp_path / "out")
    assert sum(len(content.get(s, [])) for s in ("training", "validation", "test")) == 24
    for mask in (tmp_path / "out" / "masks").iterdir():
        with Image.open(mask) as opened:
            assert set(np.unique(np.asarray(opened))) <= {0, 255}
    script("check_data").main(["--dataset_dir", str(tmp_path / "out"), "--output_dir", str(tmp_path / "check")])
    assert "24" not in json.loads((tmp_path / "check" / "report.json").read_text())["findings"]
