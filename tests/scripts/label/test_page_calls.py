# SPDX-License-Identifier: Apache-2.0
"""The calls of the page, as the page makes them; values are worked out by hand."""

import json
import shutil
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import to_rgb

from .support import MODEL, PNG, SMALL, bright, dice, draw_cases, labelling, pixels, png, wait_for

pytest.importorskip("monailabel")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Six images to label, and one of each mode that a browser shows in another way, or not at all."""
    found = draw_cases(tmp_path_factory.mktemp("images"), 6, (90, 60), step=6)
    with Image.open(found / "case_0.png") as image:
        image.quantize(16).save(found / "palette.png")
        image.convert("CMYK").save(found / "cmyk.jpg", quality=95)
        image.convert("RGBA").save(found / "rgba.png")
        image.save(found / "bitmap.bmp")
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        image.save(found / "turned.jpg", quality=95, exif=exif)
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(deep).save(found / "deep.png")
        Image.fromarray(deep).save(found / "50% of $x@2.tif")
    return found


def refusal(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["detail"]


def states(server) -> dict[str, str]:
    return {image["id"]: image["state"] for image in server.get_json("/page/state")["images"]}


def test_state(server):
    state = server.get_json("/page/state")
    assert state["model"] == MODEL
    assert [(each["value"], each["name"]) for each in state["classes"]] == [(1, "lesion")]
    names = [each["id"] for each in state["images"]]
    assert names == sorted(names)
    assert len(names) == 13
    assert (state["labelled"], state["volumes"], state["max_epochs"]) == (0, False, 25)
    assert state["training"] == {
        "status": "idle", "epoch": 0, "max_epochs": 0, "detail": "", "held_out": 0, "unchanged": 0,
        "dice_before": None, "dice_after": None, "previous_kept": False, "history": [],
    }  # fmt: skip


def test_the_page_and_its_files(server):
    content = server.get("/")
    assert b"<html" in content
    assert b"<script>" not in content
    for name, kind in (("app.js", "javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        with urllib.request.urlopen(f"{server.url}/page/{name}") as answer:
            assert kind in answer.headers["content-type"]  # browsers run and show nothing else
    assert server.call("GET", "/page/absent.js")[0] == 404


@pytest.mark.parametrize("name", ["case_1", "palette", "cmyk", "rgba", "bitmap", "turned", "deep", "50% of $x@2"])
def test_images_are_shown_as_the_bundle_reads_them(server, images, name):
    content = server.get("/page/image", name)
    assert content.startswith((b"\x89PNG", b"\xff\xd8"))
    assert b"Exif" not in content
    (path,) = [path for path in images.iterdir() if path.stem == name]
    with Image.open(path) as opened:
        expected = np.asarray(to_rgb(opened))
    shown = pixels(content)
    np.testing.assert_array_equal(shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, 2), expected)
    assert shown.shape[:2] == ((90, 60) if name == "turned" else (60, 96) if name == "case_1" else (60, 90))


def test_a_file_that_breaks_later(server, images):
    path = images / "bitmap.bmp"
    content = path.read_bytes()
    with urllib.request.urlopen(f"{server.url}/page/image?id=bitmap") as answer:
        opened = answer.headers["image-version"]
    path.write_bytes(content[:500])
    blank = png(np.zeros((60, 90)))
    status, sentence = refusal(server.call("PUT", f"/page/label?id=bitmap&drawn_on={opened}", blank, PNG))
    assert (status, sentence) == (412, "The image was replaced since it was opened here. Open it again.")
    status, sentence = refusal(server.call("PUT", "/page/label?id=bitmap", blank, PNG))
    assert (status, "bitmap.bmp: cannot be read" in sentence) == (422, True)
    for route in ("image", "prediction"):
        status, sentence = refusal(server.call("GET", f"/page/{route}?id=bitmap"))
        assert (status, "bitmap.bmp" in sentence) == (422, True)
    path.write_bytes(content)
    server.get("/page/image", "bitmap")
    server.put_label("bitmap", np.zeros((60, 90)))
    server.label("bitmap").write_bytes(content[:500])
    status, sentence = refusal(server.call("GET", "/page/label?id=bitmap"))
    assert (status, "bitmap.png" in sentence) == (422, True)
    assert server.call("DELETE", "/page/label?id=bitmap")[0] == 200


@pytest.mark.parametrize("name", ["case_2", "turned", "deep", "palette", "50% of $x@2"])
def test_predictions_are_those_of_infer_and_kept(server, name):
    assert states(server)[name] == "new"
    first = server.get("/page/prediction", name)
    mask = pixels(first)
    with Image.open(server.client.infer(MODEL, name, {})[0]) as other:
        np.testing.assert_array_equal(mask, np.asarray(other))
    assert mask.shape == pixels(server.get("/page/image", name)).shape[:2]  # mode L
    assert set(np.unique(mask)) <= {0, 1}
    assert states(server)[name] == "predicted"
    assert server.get("/page/prediction", name) == first


def test_labels_come_back_as_they_were_sent(server):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (60, 90))
    assert server.call("GET", "/page/label?id=case_0")[0] == 404
    labelled = server.get_json("/page/state")["labelled"]
    answer = server.put_label("case_0", mask)
    assert answer.pop("version")
    assert answer == {"id": "case_0", "state": "corrected", "labelled": labelled + 1}
    np.testing.assert_array_equal(server.saved("case_0"), mask)
    np.testing.assert_array_equal(pixels(server.get("/page/label", "case_0")), mask)
    assert server.put_label("case_0", 1 - mask)["labelled"] == labelled + 1
    np.testing.assert_array_equal(pixels(server.get("/page/label", "case_0")), 1 - mask)
    turned = rng.integers(0, 2, (90, 60))  # of the upright size
    server.put_label("turned", turned)
    np.testing.assert_array_equal(pixels(server.get("/page/label", "turned")), turned)
    assert states(server)["turned"] == "corrected"


def test_a_label_that_another_window_saved_is_not_replaced_unseen(server):
    ours, theirs = np.zeros((60, 90), np.uint8), np.ones((60, 90), np.uint8)
    path = server.label("rgba")

    def put_over(version: str, values: np.ndarray) -> tuple[int, str]:
        """The status, and the new version or the sentence."""
        status, answer = server.call("PUT", f"/page/label?id=rgba&replaces={version}", png(values), PNG)
        return status, json.loads(answer)["version" if status == 200 else "detail"]

    first = put_over("none", theirs)[1]
    content = path.read_bytes()
    elsewhere = (409, "Its mask was saved elsewhere since it was opened here.")
    assert put_over("none", ours) == elsewhere  # opened before it was there
    assert path.read_bytes() == content
    with urllib.request.urlopen(f"{server.url}/page/label?id=rgba") as label:
        assert label.headers["label-version"] == first
    status, second = put_over(first, ours)
    assert (status, second != first) == (200, True)
    assert put_over(first, theirs) == elsewhere
    assert put_over("1", theirs)[0] == 422
    np.testing.assert_array_equal(server.saved("rgba"), ours)
    server.put_label("rgba", theirs)  # whichever there is
    path.unlink()
    assert put_over(second, ours)[0] == 200  # nothing is lost


def test_next(server):
    # the file of bitmap was broken above, perhaps as it was scored
    left = [name for name, state in states(server).items() if state != "corrected" and name != "bitmap"]
    assert len(left) > 5

    def next_image(*skip: str) -> str | None:
        status, answer = server.post("/page/next", {"skip": ["bitmap", *skip]})
        assert status == 200, answer
        return answer["id"]

    def uncertain() -> dict[str, float] | None:
        found = {each["id"]: each["uncertainty"] for each in server.get_json("/page/state")["images"]}
        return found if all(found[name] for name in left) else None

    found = wait_for(uncertain, 300)  # the server scores by itself after its start, in a process of its own
    assert all(0 < found[name] < 1 for name in left)
    left.sort(key=found.__getitem__)
    assert next_image() == left[-1]
    assert next_image(left[-1], left[-2], "no such id") == left[-3]
    assert next_image(*left, *(f"skipped_{index:06}" for index in range(9000))) is None


def ended(server, seen: list[int]) -> dict:
    """The state at the end of a training; notes the epochs that are seen."""
    while (state := server.get_json("/page/train"))["status"] == "running":
        seen.append(state["epoch"])
        time.sleep(0.2)
    return state


def train(server, epochs: int) -> dict:
    status, answer = server.post("/page/train", {"max_epochs": epochs})
    assert (status, answer["status"]) == (202, "running")
    status, answer = server.post("/page/train")
    assert (status, answer["detail"]) == (409, "A training is running already.")
    seen = []
    state = ended(server, seen)
    assert seen == sorted(seen)
    return state


def test_training(images, random_weights, tmp_path):
    """The third label is held out; Dice of its prediction before and after, worked out here once more."""
    good = tmp_path / "images"
    shutil.copytree(images, good, ignore=lambda _, names: [name for name in names if not name.startswith("case_")])
    order = ["case_4", "case_1", "case_3", "case_0", "case_2"]
    with labelling(tmp_path / "work", good, "--checkpoint", random_weights, *SMALL) as server:
        status, answer = server.post("/page/train")
        assert (status, "no label" in answer["detail"]) == (409, True)
        server.put_label(order[0], bright(good, order[0]))
        before = server.weights.read_bytes()
        first = train(server, 1)
        assert (first["status"], first["epoch"], first["held_out"]) == ("done", 1, 0)
        assert (first["dice_before"], first["dice_after"]) == (None, None)
        assert server.weights.read_bytes() != before  # of the last epoch
        for image in (*order[1:], order[0]):  # the first one again: it keeps its place
            server.put_label(image, bright(good, image))
        predicted, truth = server.prediction("case_3"), bright(good, "case_3")
        state = train(server, 25)
        assert (state["status"], state["epoch"], state["held_out"]) == ("done", 25, 1)
        assert state["dice_before"] == pytest.approx(dice(predicted, truth))
        assert state["dice_after"] == pytest.approx(dice(server.prediction("case_3"), truth))
        assert state["dice_after"] > 0.6
        assert [(each["labels"], each["held_out"]) for each in state["history"]] == [(1, 0), (5, 1)]
        assert state["history"][1]["dice_after"] == state["dice_after"]
        assert server.post("/page/train", {"max_epochs": 1000})[0] == 202
        time.sleep(3)
        assert json.loads(server.call("DELETE", "/page/train")[1])["status"] in ("running", "stopped")
        assert ended(server, [])["status"] == "stopped"
    with labelling(tmp_path / "work", good) as again:
        state = again.get_json("/page/state")
        assert len(state["training"]["history"]) == 2
        assert state["labelled"] == 5
