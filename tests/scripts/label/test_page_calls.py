# SPDX-License-Identifier: Apache-2.0
"""The calls of the page, as the page makes them; values are worked out by hand."""

from __future__ import annotations

import io
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import to_rgb

from .support import MODEL, draw_cases, label_server, serving

pytest.importorskip("monailabel")
JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Six images to label, and one of each mode that a browser shows in another way, or not at all."""
    folder = tmp_path_factory.mktemp("images")
    found = draw_cases(folder, 6, (90, 60), step=6)
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
    return folder


@pytest.fixture(scope="module")
def server(images, random_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    command = label_server(
        folder / "work",
        "--images",
        images / "images",
        "--checkpoint",
        random_weights,
        "--set",
        "image_size=64",
        "batch_size=2",
    )
    with serving(command, folder / "work") as started:
        started.images = images / "images"
        yield started


def of(path: str, image: str) -> str:
    return f"/page/{path}?id={urllib.parse.quote(image)}"


def picture(answer: tuple[int, bytes]) -> Image.Image:
    assert answer[0] == 200, answer
    return Image.open(io.BytesIO(answer[1]))


def png(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


def put(server, image: str, values: np.ndarray) -> dict:
    status, answer = server.call("PUT", of("label", image), png(values), PNG)
    assert status == 200, answer
    return json.loads(answer)


def next_image(server, strategy: str, *skip: str) -> str | None:
    status, answer = server.call("POST", "/page/next", json.dumps({"strategy": strategy, "skip": skip}).encode(), JSON)
    assert status == 200, answer
    return json.loads(answer)["id"]


def states(server) -> dict[str, str]:
    return {image["id"]: image["state"] for image in server.get_json("/page/state")["images"]}


def test_state(server):
    state = server.get_json("/page/state")
    assert state["model"] == MODEL
    assert [(each["value"], each["name"]) for each in state["classes"]] == [(1, "lesion")]
    names = [each["id"] for each in state["images"]]
    assert names == sorted(names)
    assert len(names) == 13
    assert (state["labelled"], state["volumes"], state["max_epochs"]) == (0, False, 50)
    assert state["training"] == {
        "status": "idle", "epoch": 0, "max_epochs": 0, "detail": "", "held_out": 0, "unchanged": 0,
        "dice_before": None, "dice_after": None, "previous_kept": False, "history": [],
    }  # fmt: skip


def test_the_page_and_its_files(server):
    status, content = server.call("GET", "/")
    assert status == 200
    assert b"<html" in content
    assert b"<script>" not in content
    assert server.call("GET", "/page/absent.js")[0] == 404


@pytest.mark.parametrize(
    "name", ["case_1", "palette", "cmyk", "rgba", "bitmap", "turned", "deep", "50% of $x@2"]
)  # fmt: skip
def test_images_are_shown_as_the_bundle_reads_them(server, name):
    (path,) = [path for path in server.images.iterdir() if path.stem == name]
    shown = picture(server.call("GET", of("image", name)))
    assert shown.format in ("PNG", "JPEG")
    with Image.open(path) as opened:
        expected = np.asarray(to_rgb(opened))
    np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), expected)
    assert "exif" not in shown.info
    assert shown.size == ((60, 90) if name == "turned" else (96, 60) if name == "case_1" else (90, 60))


def test_a_deep_image_by_hand(server):
    """16 bits to 8: 257 times a value is that value."""
    shown = np.asarray(picture(server.call("GET", of("image", "deep"))))
    with Image.open(server.images / "case_0.png") as opened:
        np.testing.assert_array_equal(shown[..., 0], np.asarray(opened.convert("L")))


def test_a_file_that_breaks_later(server):
    path = server.images / "bitmap.bmp"
    content = path.read_bytes()
    path.write_bytes(content[:500])
    try:
        for route in ("image", "prediction"):
            status, answer = server.call("GET", of(route, "bitmap"))
            assert status == 422
            assert "bitmap.bmp" in json.loads(answer)["detail"]
    finally:
        path.write_bytes(content)
    assert server.call("GET", of("image", "bitmap"))[0] == 200


@pytest.mark.parametrize("name", ["case_2", "turned", "deep", "palette", "50% of $x@2"])
def test_predictions_are_those_of_infer_and_kept(server, name):
    assert states(server)[name] == "new"
    first = server.call("GET", of("prediction", name))
    mask = picture(first)
    with Image.open(server.client.infer(MODEL, name, {})[0]) as other:
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(other))
    assert mask.mode == "L"
    assert mask.size == picture(server.call("GET", of("image", name))).size
    assert set(np.unique(np.asarray(mask))) <= {0, 1}
    assert states(server)[name] == "predicted"
    started = time.perf_counter()
    assert server.call("GET", of("prediction", name)) == first
    assert time.perf_counter() - started < 0.5


def test_labels_come_back_as_they_were_sent(server):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (60, 90))
    assert server.call("GET", of("label", "case_0"))[0] == 404
    labelled = server.get_json("/page/state")["labelled"]
    answer = put(server, "case_0", mask)
    assert answer.pop("version")
    assert answer == {"id": "case_0", "state": "corrected", "labelled": labelled + 1}
    with Image.open(server.work_dir / "images" / "labels" / "final" / "case_0.png") as saved:
        assert saved.mode == "L"
        np.testing.assert_array_equal(np.asarray(saved), mask)
    np.testing.assert_array_equal(np.asarray(picture(server.call("GET", of("label", "case_0")))), mask)
    canvas = np.stack([1 - mask, mask, mask, np.full_like(mask, 255)], axis=-1)  # the red one counts
    assert put(server, "case_0", canvas)["labelled"] == labelled + 1
    np.testing.assert_array_equal(np.asarray(picture(server.call("GET", of("label", "case_0")))), 1 - mask)
    turned = rng.integers(0, 2, (90, 60))  # of the upright size
    put(server, "turned", turned)
    np.testing.assert_array_equal(np.asarray(picture(server.call("GET", of("label", "turned")))), turned)
    assert states(server)["turned"] == "corrected"


def test_a_label_that_another_window_saved_is_not_replaced_unseen(server):
    ours, theirs = np.zeros((60, 90), np.uint8), np.ones((60, 90), np.uint8)
    path, address = server.work_dir / "images" / "labels" / "final" / "rgba.png", of("label", "rgba")

    def put_over(version: str, values: np.ndarray) -> tuple[int, dict]:
        status, answer = server.call("PUT", f"{address}&replaces={version}", png(values), PNG)
        return status, json.loads(answer)

    status, first = put_over("none", theirs)
    assert status == 200, first
    content = path.read_bytes()
    status, refusal = put_over("none", ours)  # opened before it was there
    assert (status, refusal["detail"]) == (409, "Its mask was saved elsewhere since it was opened here.")
    assert path.read_bytes() == content
    with urllib.request.urlopen(server.url + address) as label:
        assert label.headers["label-version"] == first["version"]
    status, second = put_over(first["version"], ours)
    assert status == 200
    assert second["version"] != first["version"]
    assert put_over(first["version"], theirs)[0] == 409
    assert put_over("1", theirs)[0] == 422
    np.testing.assert_array_equal(np.asarray(Image.open(path)), ours)
    put(server, "rgba", theirs)  # whichever there is
    path.unlink()
    assert put_over(second["version"], ours)[0] == 200  # nothing is lost


def test_next(server):
    left = [name for name, state in states(server).items() if state != "corrected"]
    assert len(left) > 5
    assert next_image(server, "first") == left[0]
    assert next_image(server, "first", left[0], left[1], "no such id") == left[2]
    assert next_image(server, "random", *left[1:]) == left[0]
    assert next_image(server, "first", *left) is None
    for _ in range(300):  # the server scores by itself after its start, in a process of its own
        found = server.get_json("/page/state")["images"]
        uncertain = {each["id"]: each["uncertainty"] for each in found if each["uncertainty"] is not None}
        if {"case_1", "case_2", "case_3"} <= uncertain.keys():
            break
        time.sleep(1)
    others = [name for name in left if name not in ("case_1", "case_2", "case_3")]
    best = max(("case_1", "case_2", "case_3"), key=uncertain.__getitem__)
    assert next_image(server, "uncertainty", *others) == best
    assert all(0 < value < 1 for value in uncertain.values())


def train(server, epochs: int) -> dict:
    status, answer = server.call("POST", "/page/train", json.dumps({"max_epochs": epochs}).encode(), JSON)
    assert status == 202, answer
    assert json.loads(answer)["status"] == "running"
    status, answer = server.call("POST", "/page/train", b"{}", JSON)
    assert (status, json.loads(answer)["detail"]) == (409, "A training is running already.")
    seen = []
    while (state := server.get_json("/page/train"))["status"] == "running":
        seen.append(state["epoch"])
        time.sleep(0.2)
    assert seen == sorted(seen)
    return state


def bright(server, image: str) -> np.ndarray:
    with Image.open(next(server.images.glob(f"{image}.*"))) as opened:
        return np.asarray(opened.convert("L")) > 110


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_training(images, random_weights, tmp_path):
    """The third label is held out; Dice of its prediction before and after, worked out here once more."""
    draw = images / "images"
    good = tmp_path / "images"
    good.mkdir()
    for index in range(6):
        (good / f"case_{index}.png").write_bytes((draw / f"case_{index}.png").read_bytes())
    command = label_server(
        tmp_path / "work", "--images", good, "--checkpoint", random_weights, "--set", "image_size=64", "batch_size=2"
    )
    order = ["case_4", "case_1", "case_3", "case_0", "case_2"]
    weights = tmp_path / "work" / "app" / "model" / MODEL / "models" / "model.pt"
    with serving(command, tmp_path / "work") as server:
        server.images = good
        status, answer = server.call("POST", "/page/train", b"{}", JSON)
        assert (status, "no label" in json.loads(answer)["detail"]) == (409, True)
        put(server, order[0], bright(server, order[0]))
        before = weights.read_bytes()
        first = train(server, 1)
        assert (first["status"], first["epoch"], first["held_out"]) == ("done", 1, 0)
        assert (first["dice_before"], first["dice_after"]) == (None, None)
        assert weights.read_bytes() != before  # of the last epoch
        for image in order[1:]:
            put(server, image, bright(server, image))
        put(server, order[0], bright(server, order[0]))  # again: it keeps its place
        predicted = np.asarray(picture(server.call("GET", of("prediction", "case_3")))) > 0
        state = train(server, 25)
        assert (state["status"], state["epoch"], state["held_out"]) == ("done", 25, 1)
        assert state["dice_before"] == pytest.approx(dice(predicted, bright(server, "case_3")))
        now = np.asarray(picture(server.call("GET", of("prediction", "case_3")))) > 0
        assert state["dice_after"] == pytest.approx(dice(now, bright(server, "case_3")))
        assert state["dice_after"] > 0.6
        assert [(each["labels"], each["held_out"]) for each in state["history"]] == [(1, 0), (5, 1)]
        assert state["history"][1]["dice_after"] == state["dice_after"]
        status, _ = server.call("POST", "/page/train", json.dumps({"max_epochs": 1000}).encode(), JSON)
        assert status == 202
        time.sleep(3)
        assert json.loads(server.call("DELETE", "/page/train")[1])["status"] in ("running", "stopped")
        while (state := server.get_json("/page/train"))["status"] == "running":
            time.sleep(0.2)
        assert state["status"] == "stopped"
    with serving(label_server(tmp_path / "work", "--images", good), tmp_path / "work") as again:
        state = again.get_json("/page/state")
        assert len(state["training"]["history"]) == 2
        assert state["labelled"] == 5
