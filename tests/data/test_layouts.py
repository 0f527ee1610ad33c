# SPDX-License-Identifier: Apache-2.0
"""Which folders are read as which pairs. The files are empty: pairing goes by names alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unetv2_monai import InputError, load_datalist
from unetv2_monai.data import find_pairs


def files(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def patients(count: int, *paths: str, parent: str = "") -> list[str]:
    return [f"{parent}patient{index}/{path}" for index in range(count) for path in paths]


def found(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Sections and their pairs, as names relative to the folder."""
    return {
        section: [
            (Path(i["image"]).relative_to(root).as_posix(), Path(i["label"]).relative_to(root).as_posix())
            for i in pairs
        ]
        for section, pairs in find_pairs(str(root)).items()
    }


def refusal(root: Path, *sections: str) -> str:
    with pytest.raises(InputError) as error:
        load_datalist(str(root), sections or ("training", "validation"), check=False)
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"), ("image", "mask"), ("Images", "Masks"),
        ("IMAGES", "label"), ("images", "GT"), ("images", "gt"), ("images", "groundtruth"), ("images", "ground_truth"),
        ("images", "Ground Truth"), ("images", "ground-truth"), ("Image", "annotations"), ("images", "Segmentations"),
    ],
)  # fmt: skip
def test_names_of_two_folders(tmp_path, caplog, images, masks):
    files(tmp_path, f"{images}/a.jpg", f"{masks}/a.png", f"{images}/b.jpg", f"{masks}/b_gt.png")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == {
            "plain": [(f"{images}/a.jpg", f"{masks}/a.png"), (f"{images}/b.jpg", f"{masks}/b_gt.png")]
        }
    assert f"{tmp_path}: read as {images}/ + {masks}/." in caplog.messages
    split = files(tmp_path / "other", f"test/{images}/a.jpg", f"test/{masks}/a.png")
    assert found(split) == {"test": [(f"test/{images}/a.jpg", f"test/{masks}/a.png")]}


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_label", "_seg", "_gt", "_Mask", "_GT"])
@pytest.mark.parametrize("folder", ["", "images/", "train/", "Test/"])
def test_both_kinds_in_one_folder(tmp_path, folder, suffix):
    files(tmp_path, f"{folder}a.jpg", f"{folder}a{suffix}.png", f"{folder}b.png", f"{folder}b{suffix}.png")
    section = {"train/": "training", "Test/": "test"}.get(folder, "plain")
    assert found(tmp_path) == {
        section: [(f"{folder}a.jpg", f"{folder}a{suffix}.png"), (f"{folder}b.png", f"{folder}b{suffix}.png")]
    }


def test_volumes_in_one_folder(tmp_path):
    files(tmp_path, "a.nii.gz", "a_seg.nii.gz")
    assert found(tmp_path) == {"plain": [("a.nii.gz", "a_seg.nii.gz")]}


def test_split_folders_in_capitals(tmp_path):
    files(
        tmp_path,
        "Train/Images/a.png",
        "Train/GT/a.png",
        "VAL/image/b.png",
        "VAL/mask/b.png",
        "Test/c.png",
        "Test/c_gt.png",
    )
    assert found(tmp_path) == {
        "training": [("Train/Images/a.png", "Train/GT/a.png")],
        "validation": [("VAL/image/b.png", "VAL/mask/b.png")],
        "test": [("Test/c.png", "Test/c_gt.png")],
    }


def test_names_that_end_like_those_of_masks(tmp_path):
    one = files(tmp_path / "one", "images/x_mask.png", "masks/x_mask.png", "images/x.png", "masks/x.png")
    assert found(one) == {"plain": [("images/x.png", "masks/x.png"), ("images/x_mask.png", "masks/x_mask.png")]}
    two = files(tmp_path / "two", "b_seg.png", "b_seg_mask.png", "a.png", "a_mask.png")
    assert found(two) == {"plain": [("a.png", "a_mask.png"), ("b_seg.png", "b_seg_mask.png")]}


def test_files_without_a_partner_in_one_folder(tmp_path):
    files(tmp_path, "a.jpg", "a_mask.png", "b_mask.png", "c.jpg", "d.png", "d_mask.png", "d_gt.png", "a_mask_seg.png")
    message = refusal(tmp_path)
    assert "4 problems" in message
    for sentence in (
        "b_mask.png: mask without an image of that name",
        "a_mask_seg.png: mask without an image of that name",
        "c.jpg: image without a mask beside it (its name with _segmentation, _mask, _label, _seg or _gt)",
        "d_mask.png: second mask for d.png, beside d_gt.png",
    ):
        assert sentence in message


def test_other_files_and_empty_folders_are_left_out(tmp_path):
    files(
        tmp_path, "images/a.png", "masks/a.png", "images/.DS_Store", "images/Thumbs.db", "images/._a.png", "notes/a.txt"
    )
    files(tmp_path, "labels/a.txt", "images/more/b.png", ".cache/images/c.png", ".cache/masks/c.png", "preview.png")
    for folder in ("Images", "mask", "empty/images", "empty/masks", "images/folder.png"):
        (tmp_path / folder).mkdir(parents=True)
    assert found(tmp_path) == {"plain": [("images/a.png", "masks/a.png")]}


def test_two_folders_of_masks_are_refused(tmp_path):
    files(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    assert f"{tmp_path}: can be read as images/ + masks/ and as images/ + labels/. Keep one" in refusal(tmp_path)


def test_two_folders_of_images_are_refused(tmp_path):
    files(tmp_path, "images/a.png", "Image/a.png", "masks/a.png")
    assert "can be read as images/ + masks/ and as Image/ + masks/" in refusal(tmp_path)


def test_two_folders_and_files_with_suffixes_are_refused(tmp_path):
    files(tmp_path, "images/a.png", "masks/a.png", "b.png", "b_mask.png")
    message = refusal(tmp_path)
    assert f"can be read as images/ + masks/ and as images and masks (by suffix) in {tmp_path.name}/" in message


def test_an_ambiguous_section_counts_only_if_it_is_wanted(tmp_path):
    files(tmp_path, *(f"train/{kind}/{name}.png" for kind in ("images", "masks") for name in "ab"))
    files(tmp_path, *(f"test/{kind}/c.png" for kind in ("images", "masks", "labels")))
    assert len(load_datalist(str(tmp_path), check=False)["training"]) == 1
    assert f"{tmp_path / 'test'}: can be read as images/ + masks/ and as images/ + labels/" in refusal(tmp_path, "test")


def test_datalist_json_comes_first(tmp_path):
    files(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    (tmp_path / "datalist.json").write_text('{"test": [{"image": "images/a.png", "label": "labels/a.png"}]}')
    assert found(tmp_path) == {"test": [("images/a.png", "labels/a.png")]}


@pytest.mark.parametrize("parent", ["", "train/"])
@pytest.mark.parametrize(
    "names",
    [
        ("images/a.png", "masks/a.png", "images/b.png", "masks/b.png", "images/c.png", "masks/c.png"),
        ("a.png", "a_mask.png", "b.jpg", "b_mask.png", "c.png", "c_mask.png"),
    ],
)
def test_whole_patients_are_held_out(tmp_path, caplog, parent, names):
    files(tmp_path, *patients(5, *names, parent=parent), "README.md")
    drawn = set()
    for seed in range(12):
        with caplog.at_level(logging.INFO):
            lists = load_datalist(str(tmp_path), val_fraction=0.4, seed=seed, check=False)
        assert "6 of 15 training pairs (2 of 5 patients) are held out" in caplog.text
        sides = [
            {Path(item["image"]).relative_to(tmp_path / parent).parts[0] for item in items} for items in lists.values()
        ]
        assert [len(side) for side in sides] == [3, 2]
        assert not sides[0] & sides[1]
        assert [len(items) for items in lists.values()] == [9, 6]
        assert all("patient" not in item for items in lists.values() for item in items)  # batches need equal keys
        drawn.add(tuple(sorted(sides[1])))
    assert len(drawn) > 3
    section = "training" if parent else "plain"
    assert [item["patient"] for item in find_pairs(str(tmp_path))[section]] == [
        f"patient{index}" for index in range(5) for _ in range(3)
    ]


def test_patients_may_have_several_layouts_and_equal_names(tmp_path):
    files(tmp_path, "one/Images/a.png", "one/GT/a.png", "two/a.png", "two/a_seg.png", "notes/read.txt")
    (tmp_path / "empty" / "nested").mkdir(parents=True)
    assert found(tmp_path) == {"plain": [("one/Images/a.png", "one/GT/a.png"), ("two/a.png", "two/a_seg.png")]}
    assert len(load_datalist(str(tmp_path), ["test"], check=False)["test"]) == 2


def test_patients_in_split_folders(tmp_path):
    files(tmp_path, *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("x/a.png", "x/a_mask.png")))
    assert found(tmp_path) == {
        section: [(f"{split}/x/a.png", f"{split}/x/a_mask.png")]
        for section, split in (("training", "train"), ("validation", "val"), ("test", "test"))
    }


@pytest.mark.parametrize("names", [("kvasir", "clinicdb"), ("2017", "2018"), ("isic2017", "isic2018")])
def test_data_sets_in_a_split_are_no_patients(tmp_path, names):
    files(
        tmp_path, *(f"train/{name}/{kind}/{i}.png" for name in names for kind in ("images", "masks") for i in range(5))
    )
    pairs = find_pairs(str(tmp_path))["training"]
    assert sorted({pair["dataset"] for pair in pairs}) == sorted(names)
    assert not any("patient" in pair for pair in pairs)
    lists = load_datalist(str(tmp_path), check=False)
    assert [len(items) for items in lists.values()] == [9, 1]
    assert {item["dataset"] for item in lists["training"]} == {*names}


@pytest.mark.parametrize("name", ["patient_1", "case07", "P3", "0012", "sub-01", "7"])
def test_numbered_folders_in_a_split_are_patients(tmp_path, name):
    files(tmp_path, f"train/{name}/images/a.png", f"train/{name}/masks/a.png")
    assert [(pair["dataset"], pair["patient"]) for pair in find_pairs(str(tmp_path))["training"]] == [(name, name)]


def test_a_patient_without_masks_is_refused(tmp_path):
    files(tmp_path, *patients(2, "images/a.png", "masks/a.png"), "patient2/images/a.png", "patient3/a.png")
    message = refusal(tmp_path)
    assert "2 problems" in message
    assert f"{tmp_path / 'patient2'}: found images/ but no folder of masks; expected images/ and masks/" in message
    assert f"{tmp_path / 'patient3'}: found 1 image file, none with a mask beside it; expected a.jpg and" in message


def test_one_patient_is_not_enough_to_train(tmp_path):
    files(tmp_path, "x/images/a.png", "x/masks/a.png", "x/images/b.png", "x/masks/b.png")
    message = refusal(tmp_path)
    assert "holds the folder of one patient only (x/), and training needs another one for validation." in message
    assert "If x/ is the whole data set, set --dataset_dir to it." in message


@pytest.mark.parametrize("name", ["TrainDataset", "my_test", "val2017", "validation-set", "eval", "ISIC_Training_Data"])
def test_what_looks_like_a_split_is_no_patient(tmp_path, name):
    files(tmp_path, f"{name}/images/a.png", f"{name}/masks/a.png", "x/images/a.png", "x/masks/a.png")
    assert f"{tmp_path / name}: a patient or a split? Name splits train, val and test, or write" in refusal(tmp_path)


def test_a_split_folder_without_pairs_is_no_patient(tmp_path):
    files(tmp_path, *patients(3, "images/a.png", "masks/a.png"), "test/images/b.png", "VAL/c.png")
    assert [len(items) for items in load_datalist(str(tmp_path), check=False).values()] == [2, 1]


def test_split_files_cannot_name_pairs_of_patients(tmp_path):
    files(tmp_path, *patients(3, "images/a.png", "masks/a.png"), "train.txt")
    assert "train.txt: cannot list names in folders of patients; write a datalist.json" in refusal(tmp_path)


def test_a_folder_goes_before_its_sub_folders(tmp_path, caplog):
    files(tmp_path, "images/a.png", "masks/a.png", "copy/images/b.png", "copy/masks/b.png")
    assert found(tmp_path) == {"plain": [("images/a.png", "masks/a.png")]}
    assert "read as images/ + masks/; pairs in its other sub-folders are left out" in caplog.text
    files(tmp_path, "test/images/c.png", "test/masks/c.png")
    assert found(tmp_path) == {"test": [("test/images/c.png", "test/masks/c.png")]}


@pytest.mark.parametrize(
    ("paths", "seen", "nearest"),
    [
        (
            ["images/a.png"],
            "found images/ but no folder of masks; expected",
            ["images/ and masks/", "a.jpg and a_mask.png"],
        ),
        (
            ["Ground Truth/a.png", "Original/a.png"],
            "found Ground Truth/ but no folder of images (images lie also in Original/); expected",
            ["images/ and masks/", "a.jpg and a_mask.png"],
        ),
        (["a.png", "b.png"], "found 2 image files, none with a mask", ["a.jpg and a_mask.png", "images/ and masks/"]),
        (
            ["left/a.png", "x/b.png"],
            "found images in left/, x/ but no masks",
            ["images/ and masks/", "one folder per patient"],
        ),
        (
            ["images/x/a.png", "masks/x/a.png"],
            "found images/, masks/, which hold no pairs",
            ["images/ and masks/", "a.jpg"],
        ),
        (["notes.txt", "x/y/z.txt"], "found no images; expected", ["images/ and masks/", "a.jpg and a_mask.png"]),
    ],
)
def test_what_was_seen_and_the_nearest_layouts(tmp_path, paths, seen, nearest):
    message = refusal(files(tmp_path, *paths))
    assert message.startswith(f"dataset_dir {tmp_path} holds no images and masks.\nIn {tmp_path}: {seen}")
    first, second = (message.index(layout, message.index("expected")) for layout in nearest)
    assert first < second
    assert "DIR/datalist.json" in message


def test_what_was_seen_in_a_split_folder(tmp_path):
    files(tmp_path, "train/images/a.png", "test/images/b.png", "test/masks/b.png")
    message = refusal(tmp_path)
    assert "has no training pairs; it has test (1)." in message
    assert f"In {tmp_path / 'train'}: found images/ but no folder of masks" in message
    assert str(tmp_path / "test") not in message
