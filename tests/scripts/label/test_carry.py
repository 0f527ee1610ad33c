# SPDX-License-Identifier: Apache-2.0
"""Masks that are carried over to other frames: by hand, by a server, and in a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .attacks import refused
from .browser import needs_browser
from .support import app_module, dice, pixels

pytest.importorskip("cv2", reason="OpenCV is not installed: make label-env")
carry = app_module("carry", pytest.MonkeyPatch())
CLIP = [f"clip_{number}" for number in range(8, 14)]  # frames of one scene


def scene(left: int = 0, top: int = 0) -> np.ndarray:
    """A smooth random texture, uint8 (96, 128), that was moved to the right and down."""
    coarse = np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
    fine = np.asarray(Image.fromarray(coarse).resize((192, 160), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(fine[32 - top : 128 - top, 32 - left : 160 - left])


def square(left: int = 0, top: int = 0) -> np.ndarray:
    return np.pad(np.ones((30, 30), np.uint8), ((30 + top, 36 - top), (40 + left, 58 - left)))


def test_a_shifted_square():
    """The flow of a shifted picture shifts the mask; the network knows nothing, and also not of a second class."""
    two = square() + 2 * square(0, 30)
    for mask, expected in ((square(), square(6, -4)), (two, square(6, -4) + 2 * square(6, 26))):
        even = np.ones((expected.max() + 1, 96, 128)) / (expected.max() + 1)
        found, confidence = carry.fused(even, [carry.moved(scene(), mask, scene(6, -4), len(even))])
        np.testing.assert_array_equal(found, expected)
        assert confidence > 0.9
        assert carry.fused(even, [carry.moved(scene(), mask, 255 - scene(), len(even))])[1] < carry.LIMIT  # a cut


def test_logits_are_added():
    """A chance of 0.3 has the logit -0.85: a depth of 5 adds 1, one of 4 adds 0.8; an error of 2 divides by e."""
    chances = np.array([0.7, 0.3])[:, None, None] * np.ones((2, 1, 4))
    depths, error = np.array([[[-5, -4, -5, 5]], [[5, 4, 5, -5]]]), np.array([[0, 0, 2, 0]])
    mask, confidence = carry.fused(chances, [(1.0, depths, error)], 5, 4, 2)
    assert mask.tolist() == [[1, 0, 0, 0]]  # 1 of 3 pixels that moved
    assert confidence == pytest.approx(((3 + np.exp(-1)) / 4 * 2 * 1 / (3 + 1)) ** 0.5)


def test_sequences_are_found_by_name():
    images = ["a_10", "a_9", "a_009", "a_1_b", "b_9", "plain", "a_2_b"]
    found = [carry.sequence(images, name) for name in ("a_9", "a_1_b", "plain")]
    assert found == [["a_009", "a_9", "a_10"], ["a_1_b", "a_2_b"], []]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The clip, a frame behind a cut, and an image that belongs to no sequence."""
    folder = tmp_path_factory.mktemp("clip")
    frames = [scene(2 * time, time) for time in range(len(CLIP))]
    for name, frame in zip([*CLIP, "clip_14", "single"], [*frames, 255 - frames[0], frames[0]]):
        Image.fromarray(frame).save(folder / f"{name}.png")
    return folder


def test_a_server_carries_over(server):
    """To a cut, and to a saved mask, which stays; the results are proposals, and stored for the next start."""

    def carried(image: str, frames: int, stopped: str) -> list[str]:
        found = json.loads(server.call("POST", f"/page/carry?id={image}&frames={frames}")[1])
        assert found["stopped"].startswith(stopped)
        return [frame["id"] for frame in found["carried"]]

    own = server.prediction(CLIP[2])
    for image, mask in ((CLIP[0], square()), ("single", square())):
        server.put_label(image, mask)
    assert "last number" in refused(server.call("POST", "/page/carry?id=single"), 409)
    assert carried(CLIP[0], 9, "clip_14 differs too much: the confidence is 0.") == CLIP[1:]
    assert min(dice(server.prediction(name), square(2 * time, time)) for time, name in [*enumerate(CLIP)][1:]) > 0.9
    np.testing.assert_array_equal(pixels(server.get(f"/page/prediction?carried=false&id={CLIP[2]}")), own)
    server.put_label(CLIP[4], square(0, 20))
    assert carried(CLIP[4], -9, f"{CLIP[0]} has a saved mask.") == CLIP[3:0:-1]
    assert carried(CLIP[0], -1, "The sequence ends there.") == []
    assert dice(server.prediction(CLIP[1]), square(2, 1)) > 0.8  # the nearer mask has three quarters of the weight
    np.testing.assert_array_equal(server.saved(CLIP[0]), square())
    state = server.get_json("/page/state")
    assert [image["id"] for image in state["images"] if image["confidence"]] == sorted([*CLIP[1:4], CLIP[5]])
    assert (state["labelled"], "confidence" in (server.work_dir / "images" / "datastore_v2.json").read_text()) == (
        3,
        True,
    )


@needs_browser
def test_the_page_carries_over(server, page):
    server.put_label(CLIP[5], square(10, 5))
    page.load()
    page.open(CLIP[5])
    page.run("document.querySelector('#frames').value = -2")
    page.click("[data-command=carry]")
    page.until_said(f"{CLIP[4]} has a saved mask. Carried over to no frame.")
    server.call("DELETE", f"/page/label?id={CLIP[4]}")
    page.keys("f")
    page.until("document.querySelector('#status').textContent.includes(', confidence ')")
    page.open(CLIP[4])
    page.until("document.querySelector('#open_state').textContent.includes(' · predicted · carried ')")
    assert dice(page.mask(), square(8, 4)) > 0.9
    page.save()
    page.until("!document.querySelector('#open_state').textContent.includes('carried')")
