# SPDX-License-Identifier: Apache-2.0
"""What check_data finds in data sets drawn here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageFilter

from unetv2_monai import InputError

from ..conftest import draw_pair, draw_volume, script

AFFINE = np.diag([-0.5, -0.8, 2.0, 1.0])  # mm


def check(data: Path, out: Path, *options: str, status: int = 0) -> dict:
    """What report.json states; ``status``: the exit status."""
    command = ["--dataset_dir", str(data), "--output_dir", str(out), *options]
    if status:
        with pytest.raises(SystemExit) as ended:
            script("check_data").main(command)
        assert ended.value.code == status
    else:
        script("check_data").main(command)
    return json.loads((out / "report.json").read_text())


def names(entries: list[list[str]]) -> list[list[str]]:
    return [[Path(part).name.partition(".")[0] for part in entry] for entry in entries]


def test_check_finds_what_was_planted(tmp_path, capsys):
    data = tmp_path / "data"
    for split, count in (("train", 6), ("test", 3)):
        for index in range(count):
            draw_pair(data / split, f"{split}{index}", 96, 80, seed=index + 10 * (split == "test"))
    images, masks = data / "train" / "images", data / "train" / "masks"

    def plant(name: str, seed: int, blur: float, lesion: tuple[int, int]) -> None:
        fields = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8))
        image = fields.resize((96, 80), Image.Resampling.BICUBIC)
        (image.filter(ImageFilter.GaussianBlur(blur)) if blur else image).save(images / f"{name}.png")
        mask = np.zeros((80, 96), np.uint8)
        mask[: lesion[0], : lesion[1]] = 255
        Image.fromarray(mask).save(masks / f"{name}.png")

    plant("one", 40, 0, (40, 40))
    plant("again", 40, 0, (40, 40))
    plant("blurred", 40, 1, (40, 40))
    plant("empty", 50, 0, (0, 0))
    plant("tiny", 51, 0, (2, 2))
    plant("full", 52, 0, (80, 96))
    for kind in ("images", "masks"):
        shutil.copy(data / "train" / kind / "train1.png", data / "test" / kind / "leak.png")
    with Image.open(images / "train2.png") as opened:
        opened.convert("L").save(images / "train2.png")
    plant("broken", 53, 0, (40, 40))
    (images / "broken.png").write_bytes(b"no picture")
    plant("other", 54, 0, (40, 40))
    Image.new("L", (9, 9)).save(masks / "other.png")
    draw_pair(data / "train", "<b>", 40, 32)

    found = check(data, tmp_path / "out", "--near", "24", status=1)["findings"]
    named = {kind: {part for entry in names(entries) for part in entry} for kind, entries in found.items()}
    assert any("broken.png: cannot be read" in entry[0] for entry in found["refused"])
    assert any("other.png: mask of 9 x 9, but other.png is 96 x 80" in entry[0] for entry in found["refused"])
    assert {"train1", "leak"} <= named["same image in two splits"]
    twins = set().union(*(some for kind, some in named.items() if kind.startswith("same image")))
    near = set().union(*(some for kind, some in named.items() if kind.startswith("nearly")))
    assert twins == {"train1", "leak", "one", "again"}
    assert near == {"one", "again", "blurred"}
    assert "empty" in named["empty mask"]
    assert "tiny" in named["tiny lesion"]
    assert "full" in named["mask covers the image"]
    assert dict(found["several colour modes"])["L"] == "1"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 8
    assert "<script" not in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert " x same image in two splits (error" in capsys.readouterr().out


def test_frames_of_a_video_are_one_finding():
    """2000 frames, of which 2 million pairs are near; and five, each of which is near the next one alone."""
    module = script("check_data")

    def drawn(section: str, name: str, bits: np.ndarray, sha256: str = ""):
        values = frozenset({0, 1})
        return module.Facts(section, f"{name}.png", "mask.png", values, 0.1, (8, 8), sha256 or name, bits, {})

    bits = np.random.default_rng(0).random((4, 256)) < 0.5
    video = [drawn("training", f"frame{index:04d}", bits[0]) for index in range(1990)]
    video += [drawn("test", f"late{index}", bits[0]) for index in range(10)]
    drift = []
    for index in range(5):
        moved = bits[1].copy()
        moved[: 30 * index] ^= True
        drift.append(drawn("training", f"drift{index}", moved))
    twins = [drawn("training", name, bits[2], "twin") for name in ("one", "other")]
    found = module.find_duplicates([*video, *drift, *twins, drawn("test", "alone", bits[3])], 40)
    entries = {kind: [names for names, _ in some] for kind, some in found.items()}
    frames = [f"training: frame000{index}.png" for index in range(3)]
    late = [f"test: late{index}.png" for index in range(3)]
    assert entries == {
        "same image twice in a split": [["training: one.png", "training: other.png"]],
        "nearly the same image in two splits": [[*frames, *late, "and 1994 more"]],
        "nearly the same image twice in a split": [
            [*frames, "and 1987 more"],
            [*late, "and 7 more"],
            [*(f"training: drift{index}.png" for index in range(3)), "and 2 more"],
        ],
    }
    for names_and_more, shown in (entry for some in found.values() for entry in some):
        assert [fact.name for fact in shown] == names_and_more[: len(shown)]
        assert len(names_and_more) - len(shown) == names_and_more[-1].startswith("and ")


def test_a_test_set_within_the_training_set_is_a_leak(tmp_path):
    data = tmp_path / "data"
    for index in range(4):
        draw_pair(data, f"case{index}", 40, 32, seed=index)
    items = [{"image": f"images/case{index}.png", "label": f"masks/case{index}.png"} for index in range(4)]
    (data / "datalist.json").write_text(json.dumps({"training": items, "test": items[:2]}))
    assert len(check(data, tmp_path / "out", status=1)["findings"]["same image in two splits"]) == 2
    # a plain folder is all training or all test, which is no leak
    (data / "datalist.json").unlink()
    assert check(data, tmp_path / "out")["findings"] == {}


def test_check_finds_what_was_planted_in_volumes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    shape = (8, 7, 6)
    label = np.zeros(shape, np.uint8)
    label[2:5, 2:5, 1:4] = 1  # 27 of 336 voxels: 8 %
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"
    for folder in (train, test):
        for index in range(4):
            draw_volume(folder, f"{folder.name}{index}", rng.normal(0, 9, shape), label, AFFINE)
    draw_volume(train, "empty", rng.normal(0, 9, shape), np.zeros_like(label), AFFINE)
    draw_volume(train, "coarse", rng.normal(0, 9, shape), label, AFFINE @ np.diag([1, 1, 2, 1]))
    draw_volume(train, "turned", rng.normal(0, 9, shape), label, AFFINE[:, [2, 0, 1, 3]])  # slices first
    draw_volume(train, "channels", rng.normal(0, 9, (*shape, 2)), label, AFFINE)
    draw_volume(train, "nan", np.full(shape, np.nan), label, AFFINE)
    draw_volume(train, "values", rng.normal(0, 9, shape), 5 * label, AFFINE)
    draw_volume(train, "moved", rng.normal(0, 9, shape), label, AFFINE)
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), train / "labelsTr" / "moved.nii.gz")
    for kind in ("imagesTr", "labelsTr"):
        shutil.copy(train / kind / "train1.nii.gz", test / kind / "leak.nii.gz")
        (train / kind / "cut.nii.gz").write_bytes((train / kind / "train1.nii.gz").read_bytes()[:200])

    report = check(tmp_path / "data", tmp_path / "out", "--out_channels", "3", status=1)
    found = report["findings"]
    refused = {Path(entry[0].partition(": ")[0]).name.partition(".")[0]: entry[0] for entry in found["refused"]}
    assert set(refused) == {"nan", "values", "moved", "cut"}
    assert "Replace them" in refused["nan"]
    assert "label values [0 5], expected 0 to 2. Map them" in refused["values"]
    assert "lies elsewhere" in refused["moved"]
    assert names(found["same image in two splits"]) == [["train1", "leak"]]
    assert found["class that never occurs"] == [[f"{row[0]}: class 2"] for row in report["splits"][1:]]
    assert [entry[0] for entry in names(found["empty mask"])] == ["empty"]
    assert dict(found["several spacings"]) == {"0.5 x 0.8 x 2 mm": "12", "0.5 x 0.8 x 4 mm": "1"}
    assert dict(found["several orientations"]) == {"LPS": "12", "SLP": "1"}
    assert dict(found["several numbers of channels"]) == {"1": "12", "2": "1"}
    assert len(found) == 7
    assert dict(zip(report["splits"][0], report["splits"][-1])) == {
        "split": "test", "pairs": "5", "smallest": "8 x 7 x 6", "largest": "8 x 7 x 6", "lesion, median": "8.0%",
        "values": "0, 1", "spacing in mm, median": "0.5 x 0.8 x 2", "orientation": "LPS",
    }  # fmt: skip
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/jpeg;base64,") >= 8
    printed = capsys.readouterr().out
    assert "1 x same image in two splits (error" in printed
    assert all(f"  {sentence}\n" in printed for sentence in refused.values())
    assert f"  {found['empty mask'][0][0]}" not in printed  # a warning


def test_volumes_without_findings(tmp_path, capsys):
    for index in range(3):
        values = np.random.default_rng(index).normal(0, 9, (5, 6, 7))
        draw_volume(tmp_path / "data", f"v{index}", values, values > 0, AFFINE)
    assert check(tmp_path / "data", tmp_path / "out")["findings"] == {}
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "val", "test", ""])
def test_a_data_set_with_one_split_alone(split, tmp_path, monkeypatch, capsys):
    """Which splits there are is not read from the texts of errors."""
    for index in range(4):
        draw_pair(tmp_path / "data" / split, f"case{index}", 40, 32, seed=index)
    monkeypatch.setattr(InputError, "__str__", lambda self: "in other words")
    found = {row[0]: int(row[1]) for row in check(tmp_path / "data", tmp_path / "out")["splits"][1:]}
    training = {"training": 3, "validation": 1}  # a tenth, and one at least, is held out
    assert found == {"train": training, "": training, "val": {"validation": 4}, "test": {"test": 4}}[split]


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no images and masks"):
        check(tmp_path, tmp_path / "out")
    draw_pair(tmp_path, "flat", 40, 32)
    for kind in ("images", "masks"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7)), AFFINE), tmp_path / kind / "solid.nii.gz")
    with pytest.raises(InputError, match=r"solid\.nii\.gz is a volume and .*flat\.png an image"):
        check(tmp_path, tmp_path / "out")
