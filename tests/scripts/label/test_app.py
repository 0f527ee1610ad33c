# SPDX-License-Identifier: Apache-2.0
"""The app without a server or a network: the folder of images and labels, and which weights a training keeps."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from unetv2_monai import InputError

from ...support.workflow import cases
from .attacks import listing
from .support import app_module, png

pytest.importorskip("monailabel")
UploadFile = pytest.importorskip("fastapi").UploadFile
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


def test_a_full_disk_is_not_the_fault_of_an_upload(monkeypatch):
    """The server answers 507 to the first, as it is; the second becomes 422 with the client's name of the file."""
    uploads = app_module("uploads", monkeypatch)
    full = InputError("labels/case.png cannot be written (No space left on device)")
    for error, message in (
        (full, "^labels/case.png cannot be written"),
        (None, "^422: 'mine.png' cannot be used: it is no image in PNG"),
    ):
        file = UploadFile(io.BytesIO(png([[1]]) if error else b"text"), filename="mine.png")
        with pytest.raises(Exception, match=message), uploads.received(file, volumes=False):
            raise error


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


MARKED = cases("label", "marked")


class App:
    """What a training asks of the app. Weights are a file with a name of ``MARKED``."""

    def __init__(self, folder: Path, images: list[str]) -> None:
        self.folder, self.images, self.scored, self.history = folder, images, 0, []
        self.weights = folder / "model.pt"
        self.weights.write_text("old")
        for image in images:
            (folder / f"{image}.png").write_bytes(png([[1, 1, 0, 0]]))
        self.model, self.volumes, self.out_channels = "model", False, 1
        self.task = SimpleNamespace(labels={"lesion": 1}, get_path=lambda: str(self.weights))
        self.labelling = SimpleNamespace(
            read=lambda: {"history": self.history}, note=lambda _, training: self.history.append(training)
        )

    def datastore(self) -> Any:
        return SimpleNamespace(
            held_out=lambda: self.images,
            get_labeled_images=lambda: ["trained_on", *self.images],
            get_label_uri=lambda image, tag: str(self.folder / f"{image}.png"),
            get_image_uri=lambda image: image,
            version=lambda image: (self.folder / f"{image}.png").read_bytes(),
        )

    def segmented(self, image: str) -> np.ndarray:
        return np.uint8([np.arange(4) < MARKED[self.weights.read_text()][image]])

    def score(self) -> None:
        self.scored += 1


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The app and the training's state after a training that writes some weights and ends with a status."""
    training = app_module("training", monkeypatch)

    def train(images: list[str], writes: str, status: str = "DONE", meanwhile: Callable = lambda app: 0) -> tuple:
        app = App(tmp_path, images)

        def run(method: str, request: dict, params: dict) -> tuple[dict, None]:
            if writes:
                app.weights.write_text(writes)
            meanwhile(app)
            return {"status": status, "request": {}, "details": ["RuntimeError: no memory"]}, None

        monkeypatch.setattr(training.AsyncTask, "run", run)
        trainings = training.Trainings(app)
        trainings.current = training.Training("running", max_epochs=3, held_out=len(images))
        trainings._guarded(trainings._train)
        return app, trainings.state()

    return train


@pytest.mark.parametrize(
    ("images", "writes", "status", "unchanged", "before", "after", "kept"), cases("label", "compared")
)
def test_what_is_compared_and_kept(trained, tmp_path, images, writes, status, unchanged, before, after, kept):
    """Of [1, 1, 0, 0], one marked pixel has Dice 2 / 3, two have 1, as have unchanged predictions."""
    app, state = trained(images, writes, status)
    done, detail = status == "DONE", "RuntimeError: no memory" if status == "ERROR" else ""
    assert (state["status"], state["detail"]) == ({"ERROR": "failed"}.get(status, status.lower()), detail)
    expected = {"held_out": len(images), "unchanged": unchanged, "dice_before": pytest.approx(before)}
    expected |= {"dice_after": after, "previous_kept": after == 0}
    assert state.items() >= expected.items()
    assert (app.weights.read_text(), app.scored, len(app.history)) == (kept, done, done)
    assert all(noted.items() >= expected.items() for noted in app.history)
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", *(f"{image}.png" for image in images)}


def test_a_training_that_was_cut_off_changes_nothing(trained, monkeypatch):
    app, _ = trained(["corrected"], "better", "ERROR")
    trainings = app_module("training", monkeypatch).Trainings(app)
    trainings.previous.write_text("old")  # as it is while a training runs
    app.weights.write_text("worse")
    trainings.recover()
    assert (app.weights.read_text(), trainings.previous.exists()) == ("old", False)


def test_a_label_that_was_changed_meanwhile_is_not_compared(trained, tmp_path):
    """The mask that is saved now is what the old weights predict: the new ones would seem worse than they are."""
    label, another = tmp_path / "corrected.png", png([[1, 0, 0, 0]])
    app, state = trained(["corrected"], "worse", meanwhile=lambda app: label.write_bytes(another))
    assert (state["status"], state["dice_before"], state["dice_after"]) == ("done", None, None)
    assert (app.weights.read_text(), state["previous_kept"]) == ("worse", False)


def test_weights_that_cannot_be_compared_are_not_kept(trained, tmp_path):
    unreadable = Mock(side_effect=OSError("the image cannot be read"))
    app, state = trained(["equal", "corrected"], "better", meanwhile=lambda app: setattr(app, "segmented", unreadable))
    assert (state["status"], state["detail"]) == ("failed", "the image cannot be read")
    assert app.weights.read_text() == "old"
    assert not list(tmp_path.glob("previous_weights*"))


def test_what_follows_a_training_does_not_fail_it(trained):
    full = Mock(side_effect=OSError("no space"))
    app, state = trained(["corrected"], "better", meanwhile=lambda app: setattr(app.labelling, "note", full))
    assert (state["status"], app.weights.read_text(), app.scored) == ("done", "better", 1)


def test_a_training_names_the_file_that_it_cannot_use(tmp_path, monkeypatch):
    """Of two files that are broken, the first one; the page shows the sentence without the exception's name."""
    main, training = app_module("main", monkeypatch), app_module("training", monkeypatch)
    pairs = [{"image": str(tmp_path / f"{name}.png"), "label": str(tmp_path / f"{name}.png")} for name in "abc"]
    for name, content in (("a", png([[0, 1]])), ("b", png([[0, 1]])[:40]), ("c", b"")):
        (tmp_path / f"{name}.png").write_bytes(content)
    task = object.__new__(main.TrainTask)
    task.bundle_config = {}
    with pytest.raises(InputError, match=r"b\.png: cannot be read .* \(files: 2\)\. Restore it") as raised:
        task._fetch_datalist({"model": "any"}, SimpleNamespace(datalist=lambda: pairs))
    printed = f"  File x, in check\nunetv2_monai.core.errors.InputError: {raised.value}\nReturn code: 1".splitlines()
    assert training.failure({"details": printed}) == str(raised.value)
    assert task._fetch_datalist({"model": "any"}, SimpleNamespace(datalist=lambda: pairs[:1])) == pairs[:1]


def test_labels_that_came_by_hand_keep_their_place(tmp_path, monkeypatch):
    """The third of x, y, z stays held out when the page saves a label that comes before them by name."""
    main = app_module("main", monkeypatch)
    monkeypatch.setattr(main.MONAILabelApp, "on_init_complete", lambda self: None)
    app = object.__new__(main.LabelApp)
    app.labelling, app.scores_itself = main.Labelling(tmp_path / "labelling.json"), False
    store = SimpleNamespace(get_labeled_images=lambda: ["z", "y", "x"])
    app._datastore = SimpleNamespace(follow=lambda: store)
    app.trainings = SimpleNamespace(recover=lambda: None)
    app.volumes = True  # nothing to predict
    app.on_init_complete()
    assert app.labelling.held_out(["x", "y", "z"]) == ["z"]
    app.labelling.note("order", "a")
    assert app.labelling.held_out(["a", "x", "y", "z"]) == ["z"]
