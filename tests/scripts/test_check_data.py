# SPDX-License-Identifier: Apache-2.0
"""What check_data finds in data sets drawn here."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageFilter

from unetv2_monai import InputError, load_datalist
from unetv2_monai.core.overlay import MASK_COLOR

from ..conftest import draw_pair, draw_pairs, draw_volume, script
from ..support.workflow import refusal

AFFINE = np.diag([-0.5, -0.8, 2.0, 1.0])  # mm


def check(data: Path, out: Path, *options: str, status: int = 0) -> dict:
    """What report.json states; ``status``: the exit status."""
    ended = 0
    try:
        script("check_data").main(["--dataset_dir", str(data), "--output_dir", str(out), *options])
    except SystemExit as error:
        ended = error.code
    assert ended == status
    return json.loads((out / "report.json").read_text())


def names(entries: list[list[str]]) -> list[list[str]]:
    return [[Path(part).name.partition(".")[0] for part in entry] for entry in entries]


def test_check_finds_what_was_planted(tmp_path, capsys):
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"
    draw_pairs(train, 6, "train", 96, 80)
    for index in range(3):
        draw_pair(test, f"test{index}", 96, 80, seed=index + 10)

    def plant(name: str, seed: int, lesion: tuple[int, int] = (40, 40), blur: float = 0) -> None:
        fields = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8))
        image = fields.resize((96, 80), Image.Resampling.BICUBIC)
        (image.filter(ImageFilter.GaussianBlur(blur)) if blur else image).save(train / "images" / f"{name}.png")
        mask = np.zeros((80, 96), np.uint8)
        mask[: lesion[0], : lesion[1]] = 255
        Image.fromarray(mask).save(train / "masks" / f"{name}.png")

    for name, seed in (("one", 40), ("again", 40), ("broken", 53), ("other", 54)):
        plant(name, seed)
    plant("blurred", 40, blur=1)
    for seed, (name, lesion) in enumerate({"empty": (0, 0), "tiny": (2, 2), "full": (80, 96)}.items(), 50):
        plant(name, seed, lesion)
    (train / "images" / "broken.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(train / "masks" / "other.png")
    for kind in ("images", "masks"):
        shutil.copy(train / kind / "train_1.png", test / kind / "leak.png")
    with Image.open(train / "images" / "train_2.png") as opened:
        opened.convert("L").save(train / "images" / "train_2.png")
    draw_pair(train, "<b>", 40, 32)

    found = check(tmp_path / "data", tmp_path / "out", "--near", "24", status=1)["findings"]
    named = {kind: {part for entry in names(entries) for part in entry} for kind, entries in found.items()}
    assert any("broken.png: cannot be read" in entry[0] for entry in found["refused"])
    assert any("other.png: mask of 9 x 9, but other.png is 96 x 80" in entry[0] for entry in found["refused"])
    assert {"train_1", "leak"} <= named["same image in two splits"]
    for start, group in (("same image", {"train_1", "leak", "one", "again"}), ("nearly", {"one", "again", "blurred"})):
        assert set().union(*(some for kind, some in named.items() if kind.startswith(start))) == group
    for name, kind in (("empty", "empty mask"), ("tiny", "tiny lesion"), ("full", "mask covers the image")):
        assert name in named[kind]
    assert dict(found["several colour modes"])["L"] == "1"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 8
    for text in ("<script", "<b>", "http:", "https:"):
        assert text not in page
    assert " x same image in two splits (error" in capsys.readouterr().out


def test_frames_with_a_wide_border_and_masks_on_it(tmp_path):
    draw_pairs(tmp_path / "data", 4, width=96, height=80)
    for index, marked in ((2, 40), (3, 0)):
        image, mask = np.zeros((80, 96, 3), np.uint8), np.zeros((80, 96), np.uint8)
        image[:, 48:], mask[60:, 50:60], mask[5, marked] = 150, 255, 255
        for kind, content in (("images", image), ("masks", mask)):
            Image.fromarray(content).save(tmp_path / "data" / kind / f"case_{index}.png")
    found = check(tmp_path / "data", tmp_path / "out")["findings"]
    assert [entry[1] for entry in found["wide dark border"]] == ["51% is picture"] * 2  # 49 of 96 columns
    assert [entry[1] for entry in found["mask on the dark border"]] == ["0.5% of the lesion"] * 2  # 1 of 201 pixels


def test_frames_of_a_video_are_one_finding():
    """2000 frames, of which 2 million pairs are near; and five, each of which is near the next one alone."""
    module = script("check_data")

    def drawn(section: str, name: str, bits: np.ndarray, sha256: str = ""):
        return module.Facts(section, f"{name}.png", "", frozenset({0, 1}), 0.1, (8, 8), sha256 or name, bits, {})

    bits = np.random.default_rng(0).random((4, 256)) < 0.5
    facts = [drawn("training", f"frame{index:04d}", bits[0]) for index in range(1990)]
    facts += [drawn("test", f"late{index}", bits[0]) for index in range(10)]
    facts += [drawn("training", f"drift{index}", bits[1] ^ (np.arange(256) < 30 * index)) for index in range(5)]
    facts += [drawn("training", name, bits[2], "twin") for name in ("one", "other")]
    found = module.find_duplicates([*facts, drawn("test", "alone", bits[3])], 40)
    frames = [f"training: frame000{index}.png" for index in range(3)]
    late = [f"test: late{index}.png" for index in range(3)]
    assert {kind: [names for names, _ in some] for kind, some in found.items()} == {
        "same image twice in a split": [["training: one.png", "training: other.png"]],
        "nearly the same image in two splits": [[*frames, *late, "and 1994 more"]],
        "nearly the same image twice in a split": [
            [*frames, "and 1987 more"],
            [*late, "and 7 more"],
            [*(f"training: drift{index}.png" for index in range(3)), "and 2 more"],
        ],
    }
    for entry, shown in (one for some in found.values() for one in some):
        assert [fact.name for fact in shown] == [name for name in entry if not name.startswith("and ")]


def test_check_finds_what_was_planted_in_volumes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    shape = (8, 7, 6)
    label = np.zeros(shape, np.uint8)
    label[2:5, 2:5, 1:4] = 1  # 27 of 336 voxels: 8 %
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"

    def plant(name: str, affine: np.ndarray = AFFINE, values: np.ndarray | None = None, own=label, folder=train):
        draw_volume(folder, name, rng.normal(0, 9, shape) if values is None else values, own, affine)

    for index in range(4):
        plant(f"train{index}")
        plant(f"test{index}", folder=test)
    plant("empty", own=np.zeros_like(label))
    plant("coarse", AFFINE @ np.diag([1, 1, 2, 1]))
    plant("turned", AFFINE[:, [2, 0, 1, 3]])  # slices first
    plant("channels", values=rng.normal(0, 9, (*shape, 2)))
    plant("nan", values=np.full(shape, np.nan))
    plant("values", own=5 * label)
    plant("moved")
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


HELD_OUT = {"training": 3, "validation": 1}  # a tenth, and one at least


@pytest.mark.parametrize(
    ("split", "expected"), [("train", HELD_OUT), ("", HELD_OUT), ("val", {"validation": 4}), ("test", {"test": 4})]
)
def test_a_data_set_with_one_split_alone(split, expected, tmp_path, monkeypatch):
    """Which splits there are is not read from the texts of errors."""
    draw_pairs(tmp_path / "data" / split, 4)
    monkeypatch.setattr(InputError, "__str__", lambda self: "in other words")
    report = check(tmp_path / "data", tmp_path / "out")
    assert {row[0]: int(row[1]) for row in report["splits"][1:]} == expected
    assert report["findings"] == {}  # no image is in two splits


def test_images_beside_volumes_are_refused(tmp_path):
    draw_pair(tmp_path, "flat", 40, 32)
    for kind in ("images", "masks"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7)), AFFINE), tmp_path / kind / "solid.nii.gz")
    with pytest.raises(InputError, match=r"solid\.nii\.gz is a volume and .*flat\.png an image"):
        check(tmp_path, tmp_path / "out")


def test_pairs_of_a_clean_set_are_shown(tmp_path):
    draw_pairs(tmp_path / "data" / "train", 20, width=96, height=80)
    assert check(tmp_path / "data", tmp_path / "out")["findings"] == {}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "training: 12 of 18 pairs" in page
    assert "validation: 2 of 2 pairs" in page
    pictures = re.findall('data:image/jpeg;base64,([^"]+)', page)
    assert len(pictures) == 14
    for picture in pictures:  # with the green outline of the mask
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).astype(int)
        assert (np.abs(pixels - MASK_COLOR).max(axis=2) < 60).sum() > 20


def test_all_faults_are_listed_as_training_lists_them(tmp_path):
    """A file without a partner hides no other fault, and the report is written."""
    draw_pairs(tmp_path / "data", 6, "a", 96, 80)
    (tmp_path / "data" / "masks" / "a_0.png").unlink()
    ring = np.zeros((80, 96), np.uint8)
    ring[10:40, 10:40], ring[20:30, 20:30] = 255, 1  # a void around a lesion
    Image.fromarray(ring).save(tmp_path / "data" / "masks" / "a_1.png")
    Image.new("L", (9, 9)).save(tmp_path / "data" / "masks" / "a_2.png")
    refused = check(tmp_path / "data", tmp_path / "out", status=1)["findings"]["refused"]
    message = refusal(load_datalist, str(tmp_path / "data"))
    assert sorted(sentence for (sentence,) in refused) == sorted(line.strip() for line in message.splitlines()[1:-1])
    assert ["image without" in refused[0][0], len(refused)] == [True, 3]


def test_images_and_masks_that_look_wrong(tmp_path):
    """Warned of: values of 12 bits in 16, one colour, a turn by EXIF, masks with inside and outside exchanged."""
    draw_pairs(tmp_path / "data" / "test", 3, "a", 64, 64)
    images, masks = (tmp_path / "data" / "test" / kind for kind in ("images", "masks"))
    for path in masks.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    first, second, third = sorted(images.iterdir())
    Image.new("RGB", (64, 64), (90, 80, 70)).save(third)
    Image.fromarray(np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)).save(first)
    exif = Image.Exif()
    exif[274] = 6
    Image.open(second).save(second, exif=exif)
    found = check(tmp_path / "data", tmp_path / "out")["findings"]
    assert [Path(entry[0]).stem for entry in found["hardly any contrast"]] == [third.stem]
    assert [entry[1] for entry in found["grey values with a window"]] == ["20.48 to 4075"]
    assert [Path(entry[0]).stem for entry in found["image that its EXIF turns"]] == [second.stem]
    assert len(found["masks cover most of most images"]) == 1
