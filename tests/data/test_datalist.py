# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import load_datalist

from ..conftest import draw_pair, draw_pairs
from ..support.workflow import refusal
from .folders import names, touch


def names_by_section(lists) -> dict[str, list[str]]:
    return {section: names(items) for section, items in lists.items()}


def test_plain_folder_holds_out_a_seeded_share(pairs):
    first = load_datalist(str(pairs), val_fraction=0.34)
    assert (len(first["training"]), len(first["validation"])) == (4, 2)
    assert not set(names(first["training"])) & set(names(first["validation"]))
    assert first == load_datalist(str(pairs), val_fraction=0.34)
    splits = {tuple(names(load_datalist(str(pairs), seed=seed)["validation"])) for seed in range(8)}
    assert len(splits) > 1
    for item in first["training"]:
        assert Path(item["image"]).stem == Path(item["label"]).stem


def test_split_files(pairs):
    (pairs / "train.txt").write_text("case_0\ncase_1\ncase_2.png\n")
    (pairs / "test.txt").write_text("case_4\n\n")
    assert names(load_datalist(str(pairs), ["test"])["test"]) == ["case_4"]
    lists = load_datalist(str(pairs))
    assert sorted(names(lists["training"]) + names(lists["validation"])) == ["case_0", "case_1", "case_2"]
    (pairs / "test.txt").write_text("case_9\n")
    assert "test.txt: no pair named case_9" in refusal(load_datalist, str(pairs), ["test"])
    assert load_datalist(str(pairs)) == lists  # the test's names are not wanted


def test_datalist_json(pairs):
    content = {
        "training": [{"image": "images/case_0.png", "label": "masks/case_0.png", "source": "left out"}],
        "validation": [{"image": "images/case_1.jpg", "label": "masks/case_1.png", "dataset": "kept"}],
    }
    (pairs / "datalist.json").write_text(json.dumps(content))
    touch(pairs, "labels/case_0.png")  # by its folders alone it could be read in two ways
    lists = load_datalist(str(pairs))
    assert names_by_section(lists) == {"training": ["case_0"], "validation": ["case_1"]}
    assert [lists[section][0].keys() - {"image", "label"} for section in lists] == [set(), {"dataset"}]
    assert "no test pairs; it has training (1), validation (1)" in refusal(load_datalist, str(pairs), ["test"])


@pytest.mark.parametrize(
    ("seed", "training", "validation"), [(0, "01 02 04 06 07", "00 03 12 15"), (3, "02 04 06 07 18", "00 03 08 10")]
)
def test_draws_of_a_seed_stay(tmp_path, seed, training, validation):
    """Published scores name a seed: these are the draws of version 0.1. A subset is drawn after the hold-out."""
    touch(tmp_path, " ".join(f"+{index:02}" for index in range(20)))
    options = {"val_fraction": 0.2, "seed": seed, "check": False}
    lists, whole = (load_datalist(str(tmp_path), max_train_images=count, **options) for count in (5, None))
    assert names(whole["validation"]) == validation.split()
    assert len(whole["training"]) == 16
    assert names_by_section(lists) == {"training": training.split(), "validation": validation.split()}


def test_another_section_counts_only_if_it_is_wanted(tmp_path):
    """Its files are not opened, and may be unpaired, or be read in two ways."""
    draw_pairs(tmp_path / "train", 2)
    touch(tmp_path, "test/+c test/labels/c.png test/images/unpaired.png")
    assert len(load_datalist(str(tmp_path))["training"]) == 1
    message = refusal(load_datalist, str(tmp_path), ["test"])
    assert f"{tmp_path / 'test'}: can be read as images/ + masks/ and as images/ + labels/" in message


def test_pairs_that_are_left_to_train_on(tmp_path):
    draw_pairs(tmp_path, 1)
    assert "one pair only" in refusal(load_datalist, str(tmp_path))
    draw_pairs(tmp_path, 3)
    assert [len(items) for items in load_datalist(str(tmp_path), val_fraction=0.9).values()] == [1, 2]


def test_all_unpaired_and_unusable_files_in_one_error(pairs):
    (pairs / "masks" / "case_0.png").unlink()
    draw_pair(pairs, "alone", 8, 8)
    (pairs / "images" / "alone.png").unlink()
    Image.new("L", (68, 48)).save(pairs / "images" / "case_2.bmp")
    truncated = pairs / "images" / "case_1.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    Image.new("L", (30, 48)).save(pairs / "masks" / "case_4.png")
    Image.fromarray(np.full((48, 72), 127, np.uint8)).save(pairs / "masks" / "case_3.png")
    first, *lines, last = refusal(load_datalist, str(pairs)).splitlines()
    assert (first, last) == (f"6 problems in {pairs}:", "Fix or remove these files.")
    for sentence in (
        "images/case_0.png: image without a mask in masks/",
        "masks/alone.png: mask without an image of that name",
        "images/case_2.png: same name as case_2.bmp",
        "images/case_1.jpg: cannot be read",
        "masks/case_4.png: mask of 30 x 48, but case_4.png is 76 x 48",
        "masks/case_3.png: mask values 127",
    ):
        assert any(sentence in line for line in lines), sentence


@pytest.mark.parametrize(
    ("folder", "section", "count"),
    [
        ("polyp/train", "training", 1305), ("polyp/test/clinicdb", "test", 62), ("isic2017_256", "test", 650),
        ("raw/kvasir-seg", "test", 12), ("raw/isic2017", "test", 6),
    ],
)  # fmt: skip
def test_public_data_sets_as_published(real_data, folder, section, count):
    sections = ["training", "validation"] if section == "training" else [section]
    assert len(load_datalist(str(real_data / folder), sections)[section]) == count
