# SPDX-License-Identifier: Apache-2.0
"""Data sets are read as they are published and unpacked. The files are empty: pairing goes by names alone."""

import json
import logging
from pathlib import Path

import pytest

from unetv2_monai import list_images, load_datalist

from ..support.workflow import refusal
from .folders import find_pairs, names, touch
from .test_layouts import found

DRIVE = "training/images/21_training.tif training/1st_manual/21_manual1.gif training/mask/21_training_mask.gif"
READ = "training: training/images/21_training.tif=training/1st_manual/21_manual1.gif"
ISIC = "ISIC-2017_Test_v2_Data/1.jpg ISIC-2017_Test_v2_Data/1_superpixels.png"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (DRIVE, READ),
        # where vessels of the test images are published, two people drew them
        (f"{DRIVE} test/images/01_test.tif test/1st_manual/01_manual1.gif test/2nd_manual/01_manual2.gif test/mask/01_"
         "test_mask.gif", f"{READ}; test: test/images/01_test.tif=test/1st_manual/01_manual1.gif"),
        ("images/01_dr.JPG manual1/01_dr.tif mask/01_dr_mask.tif", "plain: images/01_dr.JPG=manual1/01_dr.tif"),  # HRF
        ("images/cju.jpg masks/cju.jpg kavsir_bboxes.json", "plain: images/cju.jpg=masks/cju.jpg"),
        ("Original/1.tif Ground~Truth/1.tif", "plain: Original/1.tif=Ground Truth/1.tif"),
        (f"{ISIC} ISIC-2017_Test_v2_Part1_GroundTruth/1_segmentation.png",
         "test: ISIC-2017_Test_v2_Data/1.jpg=ISIC-2017_Test_v2_Part1_GroundTruth/1_segmentation.png"),
        ("ISIC2018_Task1-2_Training_Input/1.jpg ISIC2018_Task1_Training_GroundTruth/1_segmentation.png "
         "ISIC2018_Task2_Training_GroundTruth_v3/x.png",
         "training: ISIC2018_Task1-2_Training_Input/1.jpg=ISIC2018_Task1_Training_GroundTruth/1_segmentation.png"),
        ("imagesTr/la_003.nii.gz labelsTr/la_003.nii.gz imagesTs/la_001.nii.gz dataset.json",
         "plain: imagesTr/la_003.nii.gz=labelsTr/la_003.nii.gz"),
        # nnU-Net, one channel, without and with labels of the test images
        ("imagesTr/a_0000.nii.gz labelsTr/a.nii.gz dataset.json", "plain: imagesTr/a_0000.nii.gz=labelsTr/a.nii.gz"),
        ("imagesTr/a_0000.nii labelsTr/a.nii imagesTs/b_0000.nii labelsTs/b.nii",
         "training: imagesTr/a_0000.nii=labelsTr/a.nii; test: imagesTs/b_0000.nii=labelsTs/b.nii"),
        ("volume-0.nii segmentation-0.nii", "plain: volume-0.nii=segmentation-0.nii"),  # LiTS
        ("case_0/imaging.nii case_0/segmentation.nii", "plain: case_0/imaging.nii=case_0/segmentation.nii"),  # KiTS
        # numbered frames, not numbered masks
        ("f0.jpg f0_1.jpg f0_mask.png f0_mask_1.png", "plain: f0.jpg=f0_mask.png f0_1.jpg=f0_mask_1.png"),
        ("frame_1.png frame_1~mask.png", "plain: frame_1.png=frame_1 mask.png"),
        ("images/img_1.png images/img_12.png masks/mask_1.png masks/mask_12.png",
         "plain: images/img_1.png=masks/mask_1.png images/img_12.png=masks/mask_12.png"),
        ("images/p1/a.png images/p2/a.png masks/p1/a.png masks/p2/a.png",
         "plain: images/p1/a.png=masks/p1/a.png images/p2/a.png=masks/p2/a.png"),
        ("a.nii.gz a_seg.nii.gz", "plain: a.nii.gz=a_seg.nii.gz"),
        ("images/a.JPG masks/a_Mask.PNG", "plain: images/a.JPG=masks/a_Mask.PNG"),
        ("Train/Images/a.png Train/GT/a.png VAL/image/b.png VAL/mask/b.png Test/c.png Test/c_gt.png",
         "training: Train/Images/a.png=Train/GT/a.png; validation: VAL/image/b.png=VAL/mask/b.png; "
         "test: Test/c.png=Test/c_gt.png"),
        # images that are named like masks
        ("+x_mask +x", "plain: images/x.png=masks/x.png images/x_mask.png=masks/x_mask.png"),
        ("b_seg.png b_seg_mask.png a.png a_mask.png", "plain: a.png=a_mask.png b_seg.png=b_seg_mask.png"),
        # files and folders that are left out
        ("+a images/.DS_Store images/Thumbs.db images/._a.png notes/a.txt labels/a.txt images/more/b.png .cache/+c "
         "preview.png Images/x.txt mask/x.txt empty/images/x.txt empty/masks/x.txt images/folder.png/x.txt",
         "plain: images/a.png=masks/a.png"),
        # patients
        ("one/Images/a.png one/GT/a.png two/a.png two/a_seg.png notes/read.txt empty/nested/x.txt",
         "plain: one/Images/a.png=one/GT/a.png two/a.png=two/a_seg.png"),
        ("train/x/a.png train/x/a_mask.png val/x/a.png val/x/a_mask.png",
         "training: train/x/a.png=train/x/a_mask.png; validation: val/x/a.png=val/x/a_mask.png"),
        # the folder itself is for training
        ("+a test/+c", "training: images/a.png=masks/a.png; test: test/images/c.png=test/masks/c.png"),
    ],
)  # fmt: skip
def test_pairs(tmp_path, paths, expected):
    assert found(touch(tmp_path, paths)) == dict(section.split(": ") for section in expected.split("; "))


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


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ("site_A site_B", "are site_A/, site_B/ patients, hospitals or classes of images? Name the pairs of"),
        ("centre1 centre2", "whole patients hold at best 3 of 6 training pairs (1 of 2 patients), far from "
         "val_fraction 0.1. Name the pairs of validation in val/ or datalist.json, or set val_fraction to 0.50."),
    ],
)  # fmt: skip
def test_folders_are_not_guessed_to_be_patients(tmp_path, folders, sentence):
    for folder in folders.split():
        touch(tmp_path / folder, "a.png a_mask.png b.png b_mask.png c.png c_mask.png")
    assert sentence in refusal(load_datalist, str(tmp_path), check=False)


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


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ("dataset_description.json sub-01/anat/sub-01_T1w.nii.gz", "It is in BIDS, which is not read: list images and"),
        ("a.dcm b.dcm deep/c.czi", "Files there: 2 (.dcm), 1 (.czi) in deep/."),
    ],
)
def test_what_is_not_read_is_named(tmp_path, paths, reason):
    assert reason in refusal(load_datalist, str(touch(tmp_path, paths)))


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


def test_no_split_is_made_up(tmp_path):
    """A val/ without masks is an error, not replaced by a random share; so is a list of another name."""
    touch(tmp_path, "train/+a train/+b val/images/c.png")
    assert f"{tmp_path}/val: found images/ but no folder of masks" in refusal(load_datalist, str(tmp_path), check=False)
    lists = {"training": [{"image": "a.png", "label": "b.png"}], "val": [{"image": "c.png", "label": "d.png"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    message = refusal(load_datalist, str(tmp_path), check=False)
    assert "datalist.json: unknown list 'val'. The lists are training, validation, test." in message


def test_a_patient_in_two_splits(tmp_path, caplog):
    touch(tmp_path, "train/p1/+a train/p2/+a test/p2/+b")
    find_pairs(str(tmp_path))
    assert "folders of one name in training and test, the same patients? p2." in caplog.text
