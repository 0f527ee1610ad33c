# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, load_datalist
from unetv2_monai.data import find_pairs

from ..conftest import draw_pair


def names(items) -> list[str]:
    return [Path(item["image"]).stem for item in items]


def test_plain_folder_holds_out_a_seeded_share(pairs):
    first = load_datalist(str(pairs), val_fraction=0.34)
    assert (len(first["training"]), len(first["validation"])) == (4, 2)
    assert not set(names(first["training"])) & set(names(first["validation"]))
    assert first == load_datalist(str(pairs), val_fraction=0.34)
    splits = {tuple(names(load_datalist(str(pairs), seed=seed)["validation"])) for seed in range(8)}
    assert len(splits) > 1
    for item in first["training"]:
        assert Path(item["image"]).stem == Path(item["label"]).stem


def test_evaluating_a_plain_folder_takes_every_pair(pairs):
    assert len(load_datalist(str(pairs), ["test"])["test"]) == 6


def test_split_folders_and_nested_test_sets(tmp_path):
    for folder in ("train", "val", "test/one", "test/two"):
        draw_pair(tmp_path / folder, folder.replace("/", "_"), 40, 32)
    lists = load_datalist(str(tmp_path), ["training", "validation", "test"])
    assert {key: names(items) for key, items in lists.items()} == {
        "training": ["train"],
        "validation": ["val"],
        "test": ["test_one", "test_two"],
    }


def test_split_files(pairs):
    (pairs / "train.txt").write_text("case_0\ncase_1\ncase_2.png\n")
    (pairs / "test.txt").write_text("case_4\n\n")
    assert names(load_datalist(str(pairs), ["test"])["test"]) == ["case_4"]
    lists = load_datalist(str(pairs))
    assert sorted(names(lists["training"]) + names(lists["validation"])) == ["case_0", "case_1", "case_2"]


def test_datalist_json(pairs):
    content = {
        "training": [{"image": "images/case_0.png", "label": "masks/case_0.png"}],
        "validation": [{"image": "images/case_1.jpg", "label": "masks/case_1.png"}],
    }
    (pairs / "datalist.json").write_text(json.dumps(content))
    lists = load_datalist(str(pairs))
    assert {key: names(items) for key, items in lists.items()} == {"training": ["case_0"], "validation": ["case_1"]}
    with pytest.raises(InputError, match=r"no test pairs; it has training \(1\), validation \(1\)"):
        load_datalist(str(pairs), ["test"])


@pytest.mark.parametrize("content", ["{", "[]", '{"training": [{"image": "a.png"}]}', '{"training": 3}'])
def test_broken_datalist_json(pairs, content):
    (pairs / "datalist.json").write_text(content)
    with pytest.raises(InputError, match=r"datalist\.json"):
        load_datalist(str(pairs))


def test_mask_suffixes(tmp_path):
    draw_pair(tmp_path, "ISIC_1", 40, 32)
    draw_pair(tmp_path, "ISIC_2", 40, 32)
    (tmp_path / "masks" / "ISIC_1.png").rename(tmp_path / "masks" / "ISIC_1_segmentation.png")
    (tmp_path / "masks" / "ISIC_2.png").rename(tmp_path / "masks" / "ISIC_2_Mask.PNG".replace("Mask", "mask"))
    assert len(load_datalist(str(tmp_path), ["test"])["test"]) == 2


def test_subset_is_drawn_after_the_hold_out(pairs):
    whole = load_datalist(str(pairs))
    part = load_datalist(str(pairs), max_train_images=2)
    assert part["validation"] == whole["validation"]
    assert len(part["training"]) == 2
    assert set(names(part["training"])) < set(names(whole["training"]))


@pytest.mark.parametrize(
    ("seed", "training", "validation"),
    [
        (0, ["01", "02", "04", "06", "07"], ["00", "03", "12", "15"]),
        (3, ["02", "04", "06", "07", "18"], ["00", "03", "08", "10"]),
    ],
)
def test_draws_of_a_seed_stay(tmp_path, seed, training, validation):
    """Published scores name a seed: these are the draws of version 0.1."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for index in range(20):
            (tmp_path / kind / f"{index:02}.png").write_bytes(b"")
    lists = load_datalist(str(tmp_path), val_fraction=0.2, seed=seed, max_train_images=5, check=False)
    assert {section: names(items) for section, items in lists.items()} == {
        "training": training,
        "validation": validation,
    }


def test_no_file_of_another_section_is_opened(tmp_path):
    draw_pair(tmp_path / "train", "a", 40, 32)
    draw_pair(tmp_path / "train", "b", 40, 32)
    draw_pair(tmp_path / "test", "c", 40, 32)
    (tmp_path / "test" / "images" / "c.png").write_bytes(b"not an image")
    (tmp_path / "test" / "images" / "unpaired.png").write_bytes(b"not an image")
    assert len(load_datalist(str(tmp_path))["training"]) == 1


def test_find_pairs(pairs):
    assert {section: names(items) for section, items in find_pairs(str(pairs)).items()} == {
        "plain": [f"case_{i}" for i in range(6)]
    }
    (pairs / "val.txt").write_text("case_1\n")
    (pairs / "test.txt").write_text("case_4\ncase_5\n")
    found = find_pairs(str(pairs))
    assert {section: names(items) for section, items in found.items()} == {
        "validation": ["case_1"],
        "test": ["case_4", "case_5"],
    }
    assert found["validation"] == [
        {"image": str(pairs / "images" / "case_1.jpg"), "label": str(pairs / "masks" / "case_1.png")}
    ]
    (pairs / "images" / "case_1.jpg").write_bytes(b"not an image")  # files are not opened
    assert find_pairs(str(pairs)) == found


def test_find_pairs_in_split_folders_names_data_sets(tmp_path):
    for folder in ("train", "test/one", "test/two"):
        draw_pair(tmp_path / folder, "a", 40, 32)
    found = find_pairs(str(tmp_path))
    assert {section: [item.get("dataset") for item in items] for section, items in found.items()} == {
        "training": [None],
        "test": ["one", "two"],
    }
    (tmp_path / "test" / "two" / "masks" / "a.png").unlink()
    with pytest.raises(InputError, match=r"(?s)1 problem in .*two/images/a\.png: image without a mask in masks/"):
        find_pairs(str(tmp_path))


@pytest.mark.parametrize("content", ['{"training": []}', '{"validation": [], "test": []}'])
def test_find_pairs_in_an_empty_datalist_json(tmp_path, content):
    (tmp_path / "datalist.json").write_text(content)
    with pytest.raises(InputError, match="holds no images and masks"):
        find_pairs(str(tmp_path))


def test_missing_folder():
    with pytest.raises(InputError, match=r"dataset_dir nowhere does not exist.*--dataset_dir"):
        load_datalist("nowhere")


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="holds no images and masks"):
        load_datalist(str(tmp_path))


def test_one_pair_is_not_enough_to_train(tmp_path):
    draw_pair(tmp_path, "only", 40, 32)
    with pytest.raises(InputError, match="one pair only"):
        load_datalist(str(tmp_path))


def test_one_pair_is_left_to_train_on(tmp_path):
    for index in range(3):
        draw_pair(tmp_path, f"case_{index}", 8, 8, seed=index)
    lists = load_datalist(str(tmp_path), val_fraction=0.9)
    assert [len(lists[section]) for section in ("training", "validation")] == [1, 2]


def test_all_unpaired_files_in_one_error(pairs):
    (pairs / "masks" / "case_0.png").unlink()
    (pairs / "images" / "case_1.jpg").unlink()
    Image.new("L", (68, 48)).save(pairs / "images" / "case_2.bmp")
    with pytest.raises(InputError) as error:
        load_datalist(str(pairs))
    assert "3 problems" in str(error.value)
    assert str(error.value).endswith("Fix or remove these files.")
    for sentence in ("case_0.png: image without a mask", "case_1.png: mask without an image", "case_2.png: same name"):
        assert sentence in str(error.value)


def test_unpaired_and_unreadable_files_in_the_same_error(pairs):
    (pairs / "masks" / "case_0.png").unlink()
    (pairs / "images" / "case_1.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"(?s)2 problems.*case_0\.png: image without.*case_1\.jpg: cannot be read"):
        load_datalist(str(pairs))


def test_files_that_datalist_json_names_must_exist(pairs):
    content = {"training": [{"image": f"images/case_{i}.png", "label": f"masks/case_{i}.png"} for i in (0, 2, 8)]}
    (pairs / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"(?s)2 problems.*images/case_8\.png: listed.*masks/case_8\.png: listed"):
        load_datalist(str(pairs))


def test_all_unusable_files_in_one_error(pairs):
    truncated = pairs / "images" / "case_1.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    Image.new("L", (30, 48)).save(pairs / "masks" / "case_2.png")
    Image.fromarray(np.full((48, 72), 127, np.uint8)).save(pairs / "masks" / "case_3.png")
    with pytest.raises(InputError) as error:
        load_datalist(str(pairs))
    assert "3 problems" in str(error.value)
    for sentence in (
        "case_1.jpg: cannot be read",
        "case_2.png: mask of 30 x 48, but case_2.png is 68 x 48",
        "case_3.png: mask values 127",
    ):
        assert sentence in str(error.value)


def test_check_can_be_left_out(pairs):
    (pairs / "images" / "case_1.jpg").write_bytes(b"")
    assert len(load_datalist(str(pairs), ["test"], check=False)["test"]) == 6


def test_volumes(tmp_path):
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / kind).mkdir()
        for name in ("a", "b"):
            nibabel.save(
                nibabel.Nifti1Image(np.ones((5, 6, 7), np.uint8), np.eye(4)), tmp_path / kind / f"{name}.nii.gz"
            )
    assert len(load_datalist(str(tmp_path), ["test"], out_channels=3)["test"]) == 2
    bad = nibabel.Nifti1Image(np.full((5, 6, 7), 3, np.uint8), np.eye(4))
    nibabel.save(bad, tmp_path / "labelsTr" / "b.nii.gz")
    with pytest.raises(InputError, match=r"b\.nii\.gz: label values \[3\], expected 0 to 2"):
        load_datalist(str(tmp_path), ["test"], out_channels=3)


@pytest.mark.parametrize(
    ("folder", "section", "count"),
    [
        ("polyp/train", "training", 1305),
        ("polyp/test/clinicdb", "test", 62),
        ("isic2017_256", "test", 650),
        ("raw/kvasir-seg", "test", 12),
        ("raw/isic2017", "test", 6),
    ],
)
def test_public_data_sets_as_published(real_data, folder, section, count):
    sections = ["training", "validation"] if section == "training" else [section]
    assert len(load_datalist(str(real_data / folder), sections)[section]) == count
