# SPDX-License-Identifier: Apache-2.0
"""Which weights are kept after a training of the page, and what its Dice compares; without a network."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from unetv2_monai import InputError

from .support import app_module, png

pytest.importorskip("monailabel")
# how many of four pixels each weights mark in each image; the labels mark the first two
MARKED = {
    "old": {"equal": 2, "corrected": 1},
    "better": {"equal": 3, "corrected": 2},
    "worse": {"equal": 2, "corrected": 0},
}


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
    ("images", "writes", "status", "unchanged", "before", "after", "kept"),
    [
        (["equal", "corrected"], "better", "DONE", 1, 2 / 3, 1, "better"),
        (["equal", "corrected"], "worse", "DONE", 1, 2 / 3, 0, "old"),
        (["equal"], "better", "DONE", 1, None, None, "better"),
        (["corrected"], "better", "STOPPED", 0, 2 / 3, 1, "better"),
        (["corrected"], "worse", "STOPPED", 0, 2 / 3, 0, "old"),
        (["corrected"], "", "STOPPED", 0, 2 / 3, None, "old"),
        (["corrected"], "better", "ERROR", 0, 2 / 3, None, "old"),
    ],
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
