# SPDX-License-Identifier: Apache-2.0
"""Which folders are read as which pairs. The files are empty: pairing goes by names alone."""

import logging
from pathlib import Path

import pytest

from unetv2_monai import load_datalist

from ..support.workflow import refusal
from .folders import CASES, find_pairs, touch


def found(root: Path) -> dict[str, str]:
    """Sections and their pairs, as ``image=mask`` relative to the folder; ``~`` is a space."""

    def relative(path: str) -> str:
        return Path(path).relative_to(root).as_posix().replace(" ", "~")

    return {
        section: " ".join(f"{relative(pair['image'])}={relative(pair['label'])}" for pair in pairs)
        for section, pairs in find_pairs(str(root)).items()
    }


@pytest.mark.parametrize(("images", "masks"), CASES["folders"])
def test_names_of_two_folders(tmp_path, caplog, images, masks):
    touch(tmp_path, f"{images}/a.jpg {masks}/a.png {images}/b.jpg {masks}/b_gt.png")
    with caplog.at_level(logging.INFO):
        assert found(tmp_path) == {"plain": f"{images}/a.jpg={masks}/a.png {images}/b.jpg={masks}/b_gt.png"}
    assert f"{tmp_path}: read as {images}/ + {masks}/.".replace("~", " ") in caplog.messages
    split = touch(tmp_path / "other", f"test/{images}/a.jpg test/{masks}/a.png")
    assert found(split) == {"test": f"test/{images}/a.jpg=test/{masks}/a.png"}


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_label", "_seg", "_gt", "_Mask", "_GT"])
@pytest.mark.parametrize(
    ("folder", "section"), [("", "plain"), ("images/", "plain"), ("train/", "training"), ("Test/", "test")]
)
def test_both_kinds_in_one_folder(tmp_path, folder, section, suffix):
    touch(tmp_path, f"{folder}a.jpg {folder}a{suffix}.png {folder}b.png {folder}b{suffix}.png")
    assert found(tmp_path) == {section: f"{folder}a.jpg={folder}a{suffix}.png {folder}b.png={folder}b{suffix}.png"}


@pytest.mark.parametrize("case", CASES["pairs"], ids=str)
def test_pairs(tmp_path, case):
    touch(tmp_path, " ".join(case.values()).replace("=", " "))
    assert found(tmp_path) == {section: pairs for section, pairs in case.items() if section != "left out"}


@pytest.mark.parametrize("case", CASES["refused"], ids=str)
def test_refusals(tmp_path, case):
    (tmp_path / "data").mkdir()
    root, end = touch(tmp_path / "data", case["files"]), 0
    for name, content in case.get("write", {}).items():
        (root / name).write_text(content)
    message = refusal(load_datalist, str(root), check=False)
    for part in case["message"]:
        part = part.replace("ROOT", str(root))
        assert part in message[end:], message
        end = message.index(part, end) + 1


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
