# SPDX-License-Identifier: Apache-2.0
"""Masks that are carried over to other frames: by hand, by a server, and in a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .attacks import refused
from .browser import needs_browser
from .support import SMALL, app_module, dice, labelling, pixels

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make label-env")
pytest.importorskip("cv2", reason="OpenCV is not installed: make label-env")
carry = app_module("carry", pytest.MonkeyPatch())
LAST = 6  # of the frames that show one scene


def scene(seed: int, left: int = 0, top: int = 0) -> np.ndarray:
    """A smooth random texture, uint8 (96, 128), that was moved to the right and down."""
    coarse = np.random.default_rng(seed).integers(0, 256, (40, 48), np.uint8)
    fine = np.asarray(Image.fromarray(coarse).resize((192, 160), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(fine[32 - top : 128 - top, 32 - left : 160 - left])


def square(left: int = 0, top: int = 0, value: int = 1) -> np.ndarray:
    mask = np.zeros((96, 128), np.uint8)
    mask[30 + top : 60 + top, 40 + left : 70 + left] = value
    return mask


def test_a_shifted_square():
    """The flow of a shifted picture shifts the mask; the network does not know anything."""
    even = np.full((2, 96, 128), 0.5, np.float32)
    mask, confidence = carry.fused(even, [carry.moved(scene(0), square(), scene(0, 6, -4))])
    np.testing.assert_array_equal(mask, square(6, -4))
    assert confidence > 0.9
    two = square() | square(0, 30, 2)
    mask, _ = carry.fused(np.full((3, 96, 128), 1 / 3), [carry.moved(scene(0), two, scene(0, 6, -4), 3)])
    np.testing.assert_array_equal(mask, square(6, -4) | square(6, 26, 2))
    assert carry.fused(even, [carry.moved(scene(0), square(), 255 - scene(0))])[1] < carry.LIMIT  # a cut


def test_logits_are_added():
    """A chance of 0.3 has the logit -0.85: a depth of 5 adds 1, one of 4 adds 0.8; an error of 2 divides by e."""
    constants = 5, 4, 2
    chances = np.array([0.7, 0.3])[:, None, None] * np.ones((2, 1, 4))
    depths = np.array([[[-5, -4, -5, 5]], [[5, 4, 5, -5]]])
    error = np.array([[0, 0, 2, 0]])
    mask, confidence = carry.fused(chances, [(1.0, depths, error)], *constants)
    assert mask.tolist() == [[1, 0, 0, 0]]
    exact = (1 + 1 + np.exp(-1) + 1) / 4
    assert confidence == pytest.approx((exact * 2 * 1 / (3 + 1)) ** 0.5)  # 3 pixels moved, 1 of them left
    half = [(0.5, depths, error), (0.5, depths, np.full((1, 4), 1e9))]  # of the other key frame, nothing is left
    assert carry.fused(chances, half, *constants)[0].tolist() == [[0, 0, 0, 0]]


def test_sequences_are_found_by_name():
    images = ["a_10", "a_9", "a_009", "a_1_b", "b_9", "plain", "a_2_b"]
    assert carry.sequence(images, "a_9") == ["a_009", "a_9", "a_10"]
    assert carry.sequence(images, "a_1_b") == ["a_1_b", "a_2_b"]
    assert carry.sequence(images, "plain") == []


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Frames of one scene, one behind a cut, and an image that belongs to none."""
    folder = tmp_path_factory.mktemp("clip")
    for number in range(1, LAST + 2):
        frame = scene(0, 2 * number, number)
        Image.fromarray(frame if number <= LAST else 255 - scene(0, 2, 1)).save(folder / f"clip_{number:02}.png")
    Image.fromarray(scene(2)).save(folder / "single.png")
    return folder


def carried(server, image: str, frames: int) -> dict:
    status, answer = server.call("POST", f"/page/carry?id={image}&frames={frames}")
    assert status == 200, answer
    return json.loads(answer)


def confidences(server) -> dict[str, float]:
    found = {image["id"]: image for image in server.get_json("/page/state")["images"]}
    return {name: image["confidence"] for name, image in found.items() if image["confidence"] is not None}


def test_a_server_carries_over(images, random_weights, tmp_path):
    """To a cut, and to a saved mask, which stays; the results are proposals, and outlive the server."""
    work = tmp_path / "work"
    with labelling(work, images, "--checkpoint", random_weights, *SMALL, scores=False) as server:
        own = server.prediction("clip_03")
        server.put_label("clip_01", square(2, 1))
        server.put_label("single", square())
        assert "last number" in refused(server.call("POST", "/page/carry?id=single"), 409)
        answer = carried(server, "clip_01", 10)
        assert [frame["id"] for frame in answer["carried"]] == [f"clip_{number:02}" for number in range(2, LAST + 1)]
        assert answer["stopped"].startswith("clip_07 differs too much: the confidence is 0.")
        for number in range(2, LAST + 1):
            assert dice(server.prediction(f"clip_{number:02}"), square(2 * number, number)) > 0.9
        assert server.get_json("/page/state")["labelled"] == 2
        np.testing.assert_array_equal(pixels(server.get("/page/prediction?carried=false&id=clip_03")), own)
        np.testing.assert_array_equal(server.prediction("clip_03"), own)
        assert sorted(confidences(server)) == ["clip_02", "clip_04", "clip_05", "clip_06"]
        server.put_label("clip_05", square(0, 20))
        assert [frame["id"] for frame in carried(server, "clip_05", -2)["carried"]] == ["clip_04", "clip_03"]
        answer = carried(server, "clip_05", -9)
        assert answer["stopped"] == "clip_01 has a saved mask."
        np.testing.assert_array_equal(server.saved("clip_01"), square(2, 1))
        between = server.prediction("clip_02")
        assert dice(between, square(4, 2)) > 0.8  # clip_01 has three quarters of the weight
        assert carried(server, "clip_01", -1) == {"carried": [], "stopped": "The sequence ends there."}
        before = confidences(server)
    with labelling(work, images, scores=False) as again:
        assert confidences(again) == before
        np.testing.assert_array_equal(again.prediction("clip_02"), between)


@needs_browser
def test_the_page_carries_over(server, page):
    page.open("clip_01")
    page.keys("c")
    page.until_said("Save this mask first")
    assert page.run("return document.querySelector('[data-command=carry]').disabled")
    server.put_label("clip_01", square(2, 1))
    page.load()
    page.open("clip_01")
    page.run("document.querySelector('#frames').value = 2")
    page.click("[data-command=carry]")
    page.until_said("Carried over, with confidence, to clip_02 (")
    page.until("document.querySelector('[data-id=clip_03] .marks').textContent.startsWith('carried ')")
    page.open("clip_03")
    assert " · predicted · carried " in page.text("#open_state")
    assert dice(page.mask(), square(6, 3)) > 0.9
    page.keys("r")
    page.until_said("This is the prediction.")
    assert page.text("[data-id=clip_03] .marks") in ("", "unsaved")
    page.open("clip_02")
    page.save()
    assert "carried" not in page.text("#open_state")
    assert dice(server.saved("clip_02"), square(4, 2)) > 0.9
