# SPDX-License-Identifier: Apache-2.0
"""The folder of images and labels, without a server."""

import errno
import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from unetv2_monai import InputError

from .attacks import listing
from .support import app_module

pytest.importorskip("monailabel")
PATTERNS = ["*.png", "*.jpg", "*.tif", "*.nii", "*.nii.gz"]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens the store of ``tmp_path/images`` with these files; their content is not read."""
    store = app_module("store", monkeypatch)
    labelling = store.Labelling(tmp_path / "labelling.json")
    (tmp_path / "images").mkdir()

    def open_store(*names: str) -> Any:
        for name in names:
            (tmp_path / "images" / name).write_text(name)
        return store.ImageStore(str(tmp_path / "images"), labelling, PATTERNS, tmp_path / "withdrawn")

    return open_store


def test_a_list_whose_writing_is_cut_off_is_the_one_before(opened, tmp_path, monkeypatch):
    store = opened("case.png")
    listed = tmp_path / "images" / "datastore_v2.json"
    before = listed.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.update_image_info("case", {"score": 1})
    assert listed.read_bytes() == before
    store.update_image_info("case", {"score": 2})
    assert json.loads(listed.read_text())["objects"]["case"]["image"]["info"]["score"] == 2
    assert opened().get_image_info("case")["score"] == 2


@pytest.mark.parametrize("name", ["IMG_1.Jpg", "scan.png_old.png", "case.tif.tif", "brain.nii.gz", "deep.NII.GZ"])
def test_endings_in_any_case_and_only_the_end(name, opened, tmp_path):
    """A label of another ending, as clients send it, belongs to the image."""
    store = opened(name)
    ending = ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix
    image = name[: -len(ending)]
    assert store.list_images() == [image]
    assert store.get_image_uri(image) == str(tmp_path / "images" / name)
    (tmp_path / "images" / "labels" / "final" / f"{image}.PNG").write_text("by hand")
    again = opened()
    assert again.get_labeled_images() == [image]
    assert again.get_label_uri(image, "final") == str(tmp_path / "images" / "labels" / "final" / f"{image}.PNG")


def test_labels_of_other_endings_do_not_come_back(opened, tmp_path):
    labels, withdrawn = tmp_path / "images" / "labels" / "final", tmp_path / "withdrawn"
    store = opened("case.png", "case.x.png")
    for name in ("case.tif", "case.x.jpg"):
        (labels / name).write_text(name)
    store = opened()
    store.save_version("case", b"label", ".png", "final", {})
    assert sorted(path.name for path in labels.iterdir()) == ["case.png", "case.x.jpg"]
    assert [path.read_text() for path in withdrawn.iterdir()] == ["case.tif"]
    (labels / "case.jpg").write_text("by hand")
    (labels / "case").mkdir()  # no label
    moved = store.withdraw("case")
    assert (moved.suffix, moved.read_text()) == (".png", "label")
    assert sorted(path.read_text() for path in withdrawn.iterdir()) == ["by hand", "case.tif", "label"]
    assert opened().get_labeled_images() == ["case.x"]
    assert (labels / "case").is_dir()


def test_the_version_of_a_saved_mask_is_its_own(opened, monkeypatch):
    """Not that of a mask which another window saves at once after it."""
    store, replace, seen = opened("case.png"), os.replace, []
    monkeypatch.setattr("os.replace", lambda *paths: (replace(*paths), seen.append(store.version("case"))))
    version = store.save_version("case", b"label", ".png", "final", {})
    assert seen[-1] == version


def test_what_a_full_disk_refuses_is_not_done(opened, tmp_path, monkeypatch):
    """Saving, withdrawing and adding an image write up to three files: the disk is full at the first, the second ..."""
    store, fsync, refused = opened("case.png", "other.png"), os.fsync, []
    store.save_version("other", b"label", ".png", "final", {})
    changes = [
        lambda: store.save_version("case", b"label", ".png", "final", {}),
        lambda: store.withdraw("other"),
        lambda: store.add_image("new", str(tmp_path / "images" / "case.png"), {}),
    ]
    while changes:
        (tmp_path / "labelling.json").unlink(missing_ok=True)  # an image's place is written once
        before, labelled, calls = listing(tmp_path), store.get_labeled_images(), []

        def full(descriptor: int, calls=calls) -> None:
            calls.append(fsync(descriptor))
            if len(calls) > refused.count(len(changes)):
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        try:
            changes[0]()
        except InputError:
            refused.append(len(changes))
            (tmp_path / "labelling.json").unlink(missing_ok=True)
            assert (listing(tmp_path), store.follow().get_labeled_images()) == (before, labelled)
        else:
            changes.pop(0)
    assert refused == [3, 3, 3, 2, 1, 1]
    assert (store.get_labeled_images(), len(store.list_images())) == (["case"], 3)


def test_images_that_are_links(opened, tmp_path):
    """Two links to one file without an ending: their own names count, also where they are trained on."""
    (tmp_path / "001").touch()
    paths = [tmp_path / "images" / f"{name}.png" for name in "ab"]
    for path in paths:
        path.symlink_to("../001")
        opened().save_version(path.stem, b"label", ".png", "final", {})
        assert opened().get_image_uri(path.stem) == str(path)
    assert [pair["image"] for pair in opened().datalist()] == [*map(str, paths)]


def test_a_mask_of_an_image_that_was_replaced(opened, tmp_path, monkeypatch):
    store = opened("case.png")
    path = tmp_path / "images" / "case.png"
    version = app_module("store", monkeypatch).changed(str(path))
    path.write_text("another image")
    with pytest.raises(Exception, match="412: The image was replaced"):
        store.save_version("case", b"label", ".png", "final", {}, drawn_on=version)
    assert store.version("case") == "none"
