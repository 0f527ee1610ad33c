# SPDX-License-Identifier: Apache-2.0
"""What check_data finds in data sets drawn here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from unetv2_monai import InputError

from ..conftest import draw_pair, script


def test_check_finds_what_was_planted(tmp_path, capsys):
    for split, count in (("train", 6), ("test", 3)):
        for index in range(count):
            draw_pair(tmp_path / split, f"{split}{index}", 96, 80, seed=index + 10 * (split == "test"))
    images, masks = tmp_path / "train" / "images", tmp_path / "train" / "masks"

    def plant(name, image, mask):
        image.save(images / f"{name}.png")
        mask.save(masks / f"{name}.png")

    fields = np.random.default_rng(40).integers(0, 255, (8, 8, 3), np.uint8)
    one = Image.fromarray(fields).resize((96, 80), Image.Resampling.BICUBIC)
    with Image.open(masks / "train0.png") as label:
        for name, image in (("one", one), ("again", one), ("blurred", one.filter(ImageFilter.GaussianBlur(1)))):
            plant(name, image, label)
    for seed, (name, lesion) in enumerate((("empty", (0, 0)), ("tiny", (2, 2)), ("full", (80, 96)))):
        mask = np.zeros((80, 96), np.uint8)
        mask[: lesion[0], : lesion[1]] = 255
        values = np.random.default_rng(50 + seed).integers(0, 255, (8, 8, 3), np.uint8)
        plant(name, Image.fromarray(values).resize((96, 80)), Image.fromarray(mask))
    shutil.copy(images / "train1.png", tmp_path / "test" / "images" / "leak.png")
    shutil.copy(masks / "train1.png", tmp_path / "test" / "masks" / "leak.png")
    with Image.open(images / "train2.png") as opened:
        opened.convert("L").save(images / "train2.png")
    (images / "broken.png").write_bytes(b"no picture")
    Image.new("L", (96, 80)).save(masks / "broken.png")

    with pytest.raises(SystemExit) as ended:
        script("check_data").main(
            ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--near", "24"]
        )
    assert ended.value.code == 1
    found = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    names = {kind: {Path(part).stem for entry in entries for part in entry} for kind, entries in found.items()}
    assert "broken.png" in found["unreadable"][0][0]
    assert {"train1", "leak"} <= names["same image in two splits"]
    twins = set().union(*(some for kind, some in names.items() if kind.startswith("same image")))
    near = set().union(*(some for kind, some in names.items() if kind.startswith("nearly")))
    assert twins == {"train1", "leak", "one", "again"}
    assert near == {"one", "again", "blurred"}
    assert "empty" in names["empty mask"]
    assert "tiny" in names["tiny lesion"]
    assert "full" in names["mask covers the image"]
    assert dict(found["several colour modes"])["L"] == "1"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 8
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert " x same image in two splits (error" in capsys.readouterr().out


def test_a_test_set_within_the_training_set_is_a_leak(tmp_path):
    names = [f"case{index}" for index in range(4)]
    for index, name in enumerate(names):
        draw_pair(tmp_path, name, 40, 32, seed=index)
    items = [{"image": f"images/{name}.png", "label": f"masks/{name}.png"} for name in names]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": items, "test": items[:2]}))
    command = ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        script("check_data").main(command)
    found = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    assert len(found["same image in two splits"]) == 2
    # a plain folder is all training or all test, which is no leak
    (tmp_path / "datalist.json").unlink()
    script("check_data").main(command)


def test_volumes_are_not_checked_as_images(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for index in range(2):
            (tmp_path / folder / f"{index}.nii.gz").touch()
    with pytest.raises(InputError, match=r"\.nii\.gz is no picture\. Volumes are checked by training itself"):
        script("check_data").main(["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])


def test_names_in_the_report_are_escaped(tmp_path):
    for index in range(3):
        draw_pair(tmp_path / "data", f"<b>{index}", 40, 32, seed=index)
    script("check_data").main(["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")])
    assert "<b>" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("split", ["train", "val", "test", ""])
def test_a_data_set_with_one_split_alone(split, tmp_path, monkeypatch, capsys):
    """Which splits there are is not read from the texts of errors."""
    for index in range(4):
        draw_pair(tmp_path / "data" / split, f"case{index}", 40, 32, seed=index)
    monkeypatch.setattr(InputError, "__str__", lambda self: "in other words")
    script("check_data").main(["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["splits"][1:]
    found = {row[0]: int(row[1]) for row in rows}
    training = {"training": 3, "validation": 1}  # a tenth, and one at least, is held out
    assert found == {"train": training, "": training, "val": {"validation": 4}, "test": {"test": 4}}[split]


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no images and masks"):
        script("check_data").main(["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])
