# SPDX-License-Identifier: Apache-2.0
"""Which folders are read as which pairs. The files are empty: pairing goes by names alone."""

import logging
from pathlib import Path

import pytest

from unetv2_monai import load_datalist

from ..support.workflow import refusal
from .folders import find_pairs, touch


def found(root: Path) -> dict[str, str]:
    """Sections and their pairs, as ``image=mask`` relative to the folder."""
    return {
        section: " ".join("=".join(Path(i[k]).relative_to(root).as_posix() for k in ("image", "label")) for i in pairs)
        for section, pairs in find_pairs(str(root)).items()
    }


def training_refusal(root: Path) -> str:
    return refusal(load_datalist, str(root), check=False)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"), ("image", "mask"), ("Images", "Masks"),
        ("IMAGES", "label"), ("images", "GT"), ("images", "gt"), ("images", "groundtruth"), ("images", "ground_truth"),
        ("images", "Ground~Truth"), ("images", "ground-truth"), ("Image", "annotations"), ("images", "Segmentations"),
    ],
)  # fmt: skip
def test_names_of_two_folders(tmp_path, caplog, images, masks):
    touch(tmp_path, f"{images}/a.jpg {masks}/a.png {images}/b.jpg {masks}/b_gt.png")
    masks_shown = masks.replace("~", " ")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == {"plain": f"{images}/a.jpg={masks_shown}/a.png {images}/b.jpg={masks_shown}/b_gt.png"}
    assert f"{tmp_path}: read as {images}/ + {masks_shown}/." in caplog.messages
    split = touch(tmp_path / "other", f"test/{images}/a.jpg test/{masks}/a.png")
    assert found(split) == {"test": f"test/{images}/a.jpg=test/{masks_shown}/a.png"}


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_label", "_seg", "_gt", "_Mask", "_GT"])
@pytest.mark.parametrize(
    ("folder", "section"), [("", "plain"), ("images/", "plain"), ("train/", "training"), ("Test/", "test")]
)
def test_both_kinds_in_one_folder(tmp_path, folder, section, suffix):
    touch(tmp_path, f"{folder}a.jpg {folder}a{suffix}.png {folder}b.png {folder}b{suffix}.png")
    assert found(tmp_path) == {section: f"{folder}a.jpg={folder}a{suffix}.png {folder}b.png={folder}b{suffix}.png"}


@pytest.mark.parametrize(
    ("paths", "sentences"),
    [
        ("a.jpg a_mask.png b_mask.png c.jpg d.png d_mask.png d_gt.png a_mask_seg.png",
         "4 problems|b_mask.png: mask without an image of that name|a_mask_seg.png: mask without an image of that "
         "name|c.jpg: image without a mask beside it (its name with _segmentation, _mask, _label, _seg or _gt)|"
         "d_mask.png: second mask for d.png, beside d_gt.png"),
        ("+a labels/a.png", "ROOT: can be read as images/ + masks/ and as images/ + labels/. Keep one"),
        ("images/a.png Image/a.png masks/a.png", "can be read as images/ + masks/ and as Image/ + masks/"),
        ("+a b.png b_mask.png", "can be read as images/ + masks/ and as images and masks (by suffix) in data/"),
        ("p1/+a p2/images/a.png p3/a.png",
         "2 problems|ROOT/p2: found images/ but no folder of masks; expected images/ and masks/|ROOT/p3: found 1 "
         "image file, none with a mask beside it; expected a.jpg and"),
        ("x/+a x/+b", "holds the folder of one patient only (x/), and training needs another one for validation. "
         "If x/ is the whole data set, set dataset_dir to it."),
        ("p1/+a p2/+a train.txt", "train.txt: cannot list names in folders of patients; write a datalist.json"),
        ("train/images/a.png test/+b",
         "no training pairs; it has test (1).|In ROOT/train: found images/ but no folder of masks"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, paths, sentences):
    message = training_refusal(touch(tmp_path / "data", paths))
    for sentence in sentences.replace("ROOT", str(tmp_path / "data")).split("|"):
        assert sentence in message


@pytest.mark.parametrize("name", ["TrainDataset", "my_test", "val2017", "validation-set", "eval", "ISIC_Training_Data"])
def test_a_folder_named_like_a_split(tmp_path, name):
    message = training_refusal(touch(tmp_path, f"{name}/+a x/+a"))
    assert f"{tmp_path / name}: a patient or a split? Name splits train, val and test, or write" in message


@pytest.mark.parametrize(
    ("paths", "seen", "nearest"),
    [
        ("images/a.png", "found images/ but no folder of masks; expected", "images/ and masks/, a.jpg and a_mask.png"),
        ("Ground~Truth/a.png Frames/a.png", "found Ground Truth/ but no folder of images (images lie also in Frames/);",
         "images/ and masks/, a.jpg and a_mask.png"),
        ("a.png b.png", "found 2 image files, none with a mask", "a.jpg and a_mask.png, images/ and masks/"),
        ("left/a.png x/b.png", "found images in left/, x/ but no masks", "images/ and masks/, one folder per patient"),
        ("images/x/a.png masks/y/a.png", "found images/, masks/, which hold no pairs", "images/ and masks/, a.jpg"),
        ("notes.txt x/y/z.txt", "found no images; expected", "images/ and masks/, a.jpg and a_mask.png"),
    ],
)  # fmt: skip
def test_what_was_seen_and_the_nearest_layouts(tmp_path, paths, seen, nearest):
    message = training_refusal(touch(tmp_path, paths))
    assert message.startswith(f"dataset_dir {tmp_path} holds no images and masks.\nIn {tmp_path}: {seen}")
    first, second = (message.index(layout, message.index("expected")) for layout in nearest.split(", "))
    assert first < second
    assert "DIR/datalist.json" in message


@pytest.mark.parametrize("parent", ["", "train/"])
@pytest.mark.parametrize("paths", ["P/+a P/+b P/+c", "P/a.png P/a_mask.png P/b.jpg P/b_mask.png P/c.png P/c_mask.png"])
def test_whole_patients_are_held_out(tmp_path, caplog, parent, paths):
    """A folder that is named like a split and has no pairs is none of them."""
    touch(tmp_path, "README.md " if parent else "test/images/b.png VAL/c.txt")
    touch(tmp_path, " ".join(paths.replace("P/", f"{parent}patient{index}/") for index in range(5)))
    drawn = set()
    for seed in range(12):
        with caplog.at_level(logging.INFO):
            lists = load_datalist(str(tmp_path), val_fraction=0.4, seed=seed, check=False)
        assert "6 of 15 training pairs (2 of 5 patients) are held out" in caplog.text
        sides = [{item["image"].split("patient")[-1][0] for item in items} for items in lists.values()]
        assert ([len(side) for side in sides], [len(items) for items in lists.values()]) == ([3, 2], [9, 6])
        assert not sides[0] & sides[1]
        assert all("patient" not in item for items in lists.values() for item in items)  # batches need equal keys
        drawn.add(tuple(sorted(sides[1])))
    assert len(drawn) > 3
    section = "training" if parent else "plain"
    patients = [item["patient"] for item in find_pairs(str(tmp_path))[section]]
    assert patients == [f"patient{index}" for index in range(5) for _ in range(3)]


@pytest.mark.parametrize("names", ["kvasir clinicdb", "2017 2018", "isic2017 isic2018"])
def test_data_sets_in_a_split_are_no_patients(tmp_path, names):
    for name in names.split():
        touch(tmp_path / "train" / name, "+0 +1 +2 +3 +4")
    pairs = find_pairs(str(tmp_path))["training"]
    assert {pair["dataset"] for pair in pairs} == {*names.split()}
    assert not any("patient" in pair for pair in pairs)
    lists = load_datalist(str(tmp_path), check=False)
    assert [len(items) for items in lists.values()] == [9, 1]
    assert {item["dataset"] for item in lists["training"]} == {*names.split()}


@pytest.mark.parametrize("name", ["patient_1", "case07", "P3", "0012", "sub-01", "7"])
def test_numbered_folders_in_a_split_are_patients(tmp_path, name):
    touch(tmp_path, f"train/{name}/+a")
    assert [(pair["dataset"], pair["patient"]) for pair in find_pairs(str(tmp_path))["training"]] == [(name, name)]


def test_a_folder_goes_before_its_sub_folders(tmp_path, caplog):
    touch(tmp_path, "+a copy/+b")
    assert found(tmp_path) == {"plain": "images/a.png=masks/a.png"}
    assert "read as images/ + masks/; pairs in its other sub-folders are left out" in caplog.text
