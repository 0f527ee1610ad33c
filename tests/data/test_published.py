# SPDX-License-Identifier: Apache-2.0
"""Data sets are read as they are published and unpacked. The files are empty: pairing goes by names alone."""

import logging
from pathlib import Path

import pytest

from unetv2_monai import list_images, load_datalist

from ..support.workflow import refusal
from .folders import find_pairs, names, touch
from .test_layouts import found

DRIVE = "training/images/21_training.tif training/1st_manual/21_manual1.gif training/mask/21_training_mask.gif"


def test_the_field_of_view_is_no_mask(tmp_path, caplog):
    """Of the published test images of DRIVE."""
    touch(tmp_path, f"{DRIVE} test/images/01_test.tif test/mask/01_test_mask.gif")
    with caplog.at_level(logging.INFO):
        assert list(found(tmp_path)) == ["training"]
    left_out = "1 (.tif) in test/images/, 1 (.gif) in test/mask/, 1 (.gif) in training/mask/."
    assert f"{tmp_path}: files that are not read: {left_out}" in caplog.messages
    message = refusal(load_datalist, str(tmp_path), ["test"], check=False)
    assert "found images/, mask/ but no folder of masks: mask/ is the field of view beside 1st_manual/" in message


def test_several_files_of_one_image(tmp_path):
    """Numbered masks are joined, as in BUSI; channels have a file each, as for nnU-Net."""
    busi = touch(tmp_path / "busi", "b~(1).png b~(1)_mask.png b~(1)_mask_1.png b~(2).png b~(2)_mask.png")
    (first, second) = find_pairs(str(busi))["plain"]
    assert first["label"] == [str(busi / "b (1)_mask.png"), str(busi / "b (1)_mask_1.png")]
    assert second["label"] == str(busi / "b (2)_mask.png")
    assert names(list_images(str(busi), check=False)) == ["b (1)", "b (2)"]
    raw = touch(tmp_path / "raw", "imagesTr/a_0000.nii.gz imagesTr/a_0001.nii.gz labelsTr/a.nii.gz")
    (case,) = find_pairs(str(raw))["plain"]
    images = [str(raw / f"imagesTr/a_000{channel}.nii.gz") for channel in range(2)]
    assert case == {"image": images, "label": str(raw / "labelsTr/a.nii.gz")}
    touch(raw, "imagesTr/b_0000.nii.gz labelsTr/b.nii.gz train.txt")
    (raw / "train.txt").write_text("a\n")
    assert find_pairs(str(raw)) == {"training": [case]}


def test_a_share_of_every_class_is_held_out(tmp_path, caplog):
    for name, count in (("benign", 20), ("malignant", 10), ("normal", 10)):
        touch(tmp_path / name, " ".join(f"{name}~({i}).png {name}~({i})_mask.png" for i in range(count)))
    with caplog.at_level(logging.INFO):
        lists = load_datalist(str(tmp_path), check=False)
    held_out = [Path(item["image"]).parent.name for item in lists["validation"]]
    assert held_out == ["benign", "benign", "malignant", "normal"]
    assert [len(lists["training"]), [*lists["training"][0]]] == [36, ["image", "label"]]
    assert "benign, malignant, normal are read as classes of images, not as patients." in caplog.text


def test_patients_of_unequal_size(tmp_path):
    """The share of pairs counts, not that of patients: 5 of 50 pairs, though p9 has 30."""
    for index, count in enumerate([2, 2, 2, 3, 3, 2, 2, 2, 2, 30]):
        touch(tmp_path / f"p{index}", " ".join(f"{i}.png {i}_mask.png" for i in range(count)))
    for seed in range(5):
        lists = load_datalist(str(tmp_path), seed=seed, check=False)
        assert 4 <= len(lists["validation"]) <= 6
        assert not any("/p9/" in item["image"] for item in lists["validation"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_split_files(tmp_path, encoding):
    touch(tmp_path, "+ä +b")
    (tmp_path / "train.txt").write_bytes("ä\n".encode(encoding))
    (tmp_path / "test.txt").write_text("b")
    if encoding in ("utf-8-sig", "utf-16"):
        assert found(tmp_path)["training"] == "images/ä.png=masks/ä.png"
    else:
        assert "train.txt: is not in UTF-8" in refusal(load_datalist, str(tmp_path), ["training"], check=False)


def test_folders_by_name(tmp_path):
    """Where no layout fits; train.txt still assigns the pairs."""
    touch(tmp_path, "photo/1.jpg photo/2.jpg drawn/1-x.png drawn/2-x.png drawn/notes.txt drawn/2-y.png")
    folders = {"images_dir": "photo", "masks_dir": "drawn", "mask_suffix": "-x"}
    lists = load_datalist(str(tmp_path), ["test"], check=False, folders=folders)["test"]
    assert lists == [{"image": f"{tmp_path}/photo/{i}.jpg", "label": f"{tmp_path}/drawn/{i}-x.png"} for i in (1, 2)]
    (tmp_path / "train.txt").write_text("2")
    assert names(load_datalist(str(tmp_path), ["training"], check=False, folders=folders)["training"]) == ["2"]
    one = touch(tmp_path / "one", "1.jpg 1-x.png 2.jpg")
    message = refusal(load_datalist, str(one), ["test"], check=False, folders={"mask_suffix": "-x"})
    assert f"1 problem in {one}:\n  {one}/2.jpg: image without a mask" in message
    message = refusal(load_datalist, str(tmp_path), check=False, folders={"images_dir": "photo", "masks_dir": ""})
    assert "holds images and masks: name the end of the masks' names by mask_suffix." in message
    message = refusal(load_datalist, str(tmp_path), check=False, folders={"images_dir": "x", "masks_dir": "drawn"})
    assert "x is no folder. images_dir and masks_dir name folders in dataset_dir" in message


def test_a_patient_in_two_splits(tmp_path, caplog):
    touch(tmp_path, "train/p1/+a train/p2/+a test/p2/+b")
    find_pairs(str(tmp_path))
    assert "folders of one name in training and test, the same patients? p2." in caplog.text
