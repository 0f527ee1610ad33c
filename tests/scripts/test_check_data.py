# SPDX-License-Identifier: Apache-2.0
"""What check_data finds in data sets drawn here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from checks.findings import Facts, Pair, find_duplicates
from PIL import Image, ImageFilter

from unetv2_monai import InputError

from ..conftest import draw_pair, script

AFFINE = np.diag([-0.5, -0.8, 2.0, 1.0])  # mm


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
    assert "broken.png" in found["refused"][0][0]
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


def drawn(section: str, name: str, bits: np.ndarray, sha256: str = "") -> Facts:
    pair = Pair(section, f"{name}.png", f"{name}_mask.png")
    return Facts(pair, (8, 8), sha256 or name, bits, frozenset({0, 1}), 0.1, {})


def test_frames_of_a_video_are_one_finding():
    """2000 frames, of which 2 million pairs are near; and five, each of which is near the next one alone."""
    bits = np.random.default_rng(0).random((4, 256)) < 0.5
    video = [drawn("training", f"frame{index:04d}", bits[0]) for index in range(1990)]
    video += [drawn("test", f"late{index}", bits[0]) for index in range(10)]
    drift = []
    for index in range(5):
        moved = bits[1].copy()
        moved[: 30 * index] ^= True
        drift.append(drawn("training", f"drift{index}", moved))
    twins = [drawn("training", name, bits[2], "twin") for name in ("one", "other")]
    found = find_duplicates([*video, *drift, *twins, drawn("test", "alone", bits[3])], 40)
    assert found["same image twice in a split"].entries == [["training: one.png", "training: other.png"]]
    (across,) = found["nearly the same image in two splits"].entries
    names = [f"training: frame000{i}.png" for i in range(3)] + [f"test: late{i}.png" for i in range(3)]
    assert across == [*names, "and 1994 more"]
    frames, late, chain = found["nearly the same image twice in a split"].entries
    assert frames == [*names[:3], "and 1987 more"]
    assert chain == [*(f"training: drift{i}.png" for i in range(3)), "and 2 more"]
    assert late == [*names[3:], "and 7 more"]
    assert len(found) == 3


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


def plant_volume(folder, name, values, label, affine=AFFINE):
    for kind, content in (("imagesTr", values), ("labelsTr", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(content, affine), folder / kind / f"{name}.nii.gz")


def test_check_finds_what_was_planted_in_volumes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    shape = (8, 7, 6)
    label = np.zeros(shape, np.uint8)
    label[2:5, 2:5, 1:4] = 1  # 27 of 336 voxels: 8 %
    for split in ("train", "test"):
        for index in range(4):
            plant_volume(tmp_path / split, f"{split}{index}", rng.normal(0, 9, shape), label)
    train = tmp_path / "train"
    plant_volume(train, "empty", rng.normal(0, 9, shape), np.zeros_like(label))
    plant_volume(train, "coarse", rng.normal(0, 9, shape), label, AFFINE @ np.diag([1, 1, 2, 1]))
    plant_volume(train, "turned", rng.normal(0, 9, shape), label, AFFINE[:, [2, 0, 1, 3]])  # slices first
    plant_volume(train, "channels", rng.normal(0, 9, (*shape, 2)), label)
    plant_volume(train, "nan", np.full(shape, np.nan), label)
    plant_volume(train, "values", rng.normal(0, 9, shape), 5 * label)
    plant_volume(train, "moved", rng.normal(0, 9, shape), label)
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), train / "labelsTr" / "moved.nii.gz")
    for kind in ("imagesTr", "labelsTr"):
        shutil.copy(train / kind / "train1.nii.gz", tmp_path / "test" / kind / "leak.nii.gz")
        (train / kind / "cut.nii.gz").write_bytes((train / kind / "train1.nii.gz").read_bytes()[:200])
    with pytest.raises(SystemExit) as ended:
        script("check_data").main(
            ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--out_channels", "3"]
        )
    assert ended.value.code == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = report["findings"]
    refused = {Path(entry[0].partition(": ")[0]).name: entry[0] for entry in found["refused"]}
    assert set(refused) == {f"{name}.nii.gz" for name in ("nan", "values", "moved", "cut")}
    assert "Replace them" in refused["nan.nii.gz"]
    assert "label values [0 5], expected 0 to 2. Map them" in refused["values.nii.gz"]
    assert "lies elsewhere" in refused["moved.nii.gz"]
    assert [[Path(part).name for part in entry] for entry in found["same image in two splits"]] == [
        ["train1.nii.gz", "leak.nii.gz"]
    ]
    assert found["class that never occurs"] == [[f"{row[0]}: class 2"] for row in report["splits"][1:]]
    assert [Path(name).name for name, _ in found["empty mask"]] == ["empty.nii.gz"]
    assert dict(found["several spacings"]) == {"0.5 x 0.8 x 2 mm": "12", "0.5 x 0.8 x 4 mm": "1"}
    assert dict(found["several orientations"]) == {"LPS": "12", "SLP": "1"}
    assert dict(found["several numbers of channels"]) == {"1": "12", "2": "1"}
    assert set(found) == {
        "refused", "same image in two splits", "several numbers of channels", "class that never occurs",
        "empty mask", "several orientations", "several spacings",
    }  # fmt: skip
    header, *rows = report["splits"]
    test = dict(zip(header, rows[-1]))
    assert test["spacing in mm, median"] == "0.5 x 0.8 x 2"
    assert (test["smallest"], test["orientation"], test["lesion, median"], test["values"]) == (
        "8 x 7 x 6", "LPS", "8.0%", "0, 1",
    )  # fmt: skip
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/jpeg;base64,") >= 8
    printed = capsys.readouterr().out
    assert "1 x same image in two splits (error" in printed
    assert all(f"  {sentence}\n" in printed for sentence in refused.values())
    assert f"  {found['empty mask'][0][0]}" not in printed  # a warning


def test_volumes_without_findings(tmp_path, capsys):
    for index in range(3):
        values = np.random.default_rng(index).normal(0, 9, (5, 6, 7))
        plant_volume(tmp_path / "data", f"v{index}", values, (values > 0).astype(np.uint8))
    script("check_data").main(["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "report.json").read_text())["findings"] == {}
    assert " x " not in capsys.readouterr().out.replace("5 x 6 x 7", "").replace("0.5 x 0.8 x 2", "")


def test_images_and_volumes_together_are_refused(tmp_path):
    draw_pair(tmp_path, "flat", 40, 32)
    for kind in ("images", "masks"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7)), AFFINE), tmp_path / kind / "solid.nii.gz")
    with pytest.raises(InputError, match=r"solid\.nii\.gz is a volume and .*flat\.png an image"):
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
