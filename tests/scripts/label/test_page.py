# SPDX-License-Identifier: Apache-2.0
"""The labelling page in a real browser, against the real server: `make test-label`."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from ...conftest import draw_pair
from . import support
from .browser import OPENED, SHOWN, browsing, draw_line, fill_polygon, needs_browser
from .support import bright, draw_cases, labelling

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make label-env")
pytestmark = needs_browser
ENTER, DELETE = "\ue007", "\ue017"
FRAME = (1920, 1080)
OPTIONS = ()  # the shipped weights, as a user starts it


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Small images and a frame of a video."""
    folder = tmp_path_factory.mktemp("page_images")
    draw_pair(folder, "unreadable", 40, 30)
    draw_pair(folder, "frame", *FRAME, seed=9)
    return draw_cases(folder, 8, (96, 72), step=8)


def test_opened_image_shows_its_prediction(server, page):
    page.until(SHOWN)  # the page opens an image by itself
    times = [page.open("case_0")]
    assert page.row("case_0", "state") == "predicted"
    np.testing.assert_array_equal(page.mask(), server.prediction("case_0") > 0)
    times += [page.open(f"case_{index}") for index in (1, 2, 3)]
    frame = page.open("frame")
    print(f"\nseconds from click to prediction: {times}, of 1920 x 1080 {frame}")


def test_saved_mask_equals_the_strokes(server, page):
    """Brush, eraser, polygon, undo and redo on a frame at its own resolution, against the same in numpy."""
    page.open("frame")
    page.keys("z", DELETE)  # 100 %, nothing marked
    place = page.place()
    assert place.scale == 1
    expected = np.zeros(FRAME[::-1], np.uint8)

    page.keys("b", "]", "]", "]")
    assert page.text("#size_shown").split()[0] == "21"
    stroke = page.draw((0.2, 0.3), (0.7, 0.35), (0.65, 0.8), (0.4, 0.62))
    draw_line(expected, [place.pixel(point) for point in stroke], 21, 1)
    np.testing.assert_array_equal(page.mask(), expected)

    page.keys("e", "[")
    size = int(page.text("#size_shown").split()[0])
    erased = page.draw((0.3, 0.2), (0.5, 0.5))
    draw_line(expected, [place.pixel(point) for point in erased], size, 0)

    page.keys("p")
    corners = [page.at(0.55, 0.5), page.at(0.9, 0.55), page.at(0.6, 0.9), page.at(0.85, 0.42)]  # crosses itself
    for corner in corners:
        page.drag([corner])
    page.keys(ENTER)
    without = expected.copy()
    fill_polygon(expected, [place.corner(corner) for corner in corners], 1)
    assert (expected != without).sum() > 1000
    np.testing.assert_array_equal(page.mask(), expected)

    page.keys("z", control=True)
    np.testing.assert_array_equal(page.mask(), without)
    page.keys("y", control=True)
    page.keys("b", *"[[[[[[[[[[")  # one pixel
    (dot,) = page.draw((0.1, 0.1))
    draw_line(expected, [place.pixel(dot)], 1, 1)

    assert page.unsaved
    page.save()
    assert page.row("frame", "state") == "corrected"
    np.testing.assert_array_equal(server.saved("frame"), expected)

    page.open("case_0")
    page.open("frame")
    assert page.text("#open_state").endswith("corrected")
    np.testing.assert_array_equal(page.mask(), expected)


def test_strokes_are_exact_when_zoomed(server, page):
    """Several image pixels for one of the screen and the other way round, and the corrected prediction."""
    page.open("case_4")
    expected = server.prediction("case_4")
    for zoom in ("+", "-"):
        page.keys("0", zoom, zoom, zoom)
        place = page.place()
        stroke = page.draw((0.45, 0.4), (0.53, 0.57))
        draw_line(expected, [place.pixel(point) for point in stroke], 15, 1)
    page.click("#save")
    page.until_state("corrected")
    np.testing.assert_array_equal(server.saved("case_4"), expected)


@pytest.mark.parametrize("zoom", ["0", "+"])
def test_curve_replaces_a_part_of_the_outline(server, page, zoom):
    """On the straight side of a rectangle, from 22 to 34 pixels of 56, the curve is straight as well."""
    page.open("case_3")
    page.keys(DELETE, "0", zoom, "p")
    place = page.place()

    def at(x: int, y: int) -> tuple[int, int]:
        return round(place.left + x * place.scale), round(place.top + y * place.scale)

    for corner in ((30, 30), (86, 30), (86, 60), (30, 60)):
        page.drag([at(*corner)])
    page.keys(ENTER, "c")
    expected = np.zeros_like(page.mask())
    expected[30:60, 30:86] = 1
    np.testing.assert_array_equal(page.mask(), expected)
    for y, button in ((26, 2), (26, 0), (34, 2), (34, 0)):  # outside and inside; the right button adds nothing
        page.drag([at(52, y), at(58, y), at(64, y)], button=button)
        drawn = expected.copy()
        drawn[min(y, 30) : max(y, 30), 52:64] = y < 30
        np.testing.assert_array_equal(page.mask(), expected if (y, button) == (26, 2) else drawn)
        page.keys(*("z" if (y, button) != (26, 2) else ""), control=True)
        np.testing.assert_array_equal(page.mask(), expected)
    page.drag([at(52, 34), at(64, 34)])
    page.save()
    np.testing.assert_array_equal(server.saved("case_3"), drawn)
    page.keys(DELETE)
    page.drag([at(52, 34), at(64, 34)])
    page.until_said("There is no outline yet. Mark the inside with the brush first, roughly.")
    page.keys("z", control=True)
    page.withdraw()


def test_unsaved_strokes_survive_reload_and_leaving(page):
    page.open("case_5")
    page.draw((0.3, 0.3), (0.6, 0.3))
    drawn = page.mask()
    assert page.unsaved
    page.load()
    page.until_state("unsaved strokes")
    assert page.opened == "case_5"  # the image that was open
    np.testing.assert_array_equal(page.mask(), drawn)

    page.open("case_6")
    assert page.row("case_5", "draft") == "true"
    assert page.row("case_6", "draft") == "false"
    page.open("case_5")
    np.testing.assert_array_equal(page.mask(), drawn)
    page.save()
    assert page.row("case_5", "draft") == "false"
    page.draw((0.3, 0.5), (0.6, 0.5))
    for _ in range(2):
        page.load()
        page.until_state("unsaved strokes")
    page.save()  # they still belong to the mask that was saved


def test_next_and_skip(server, page):
    """Skipped and corrected images are not offered again."""
    server.put_label("case_0", np.zeros((72, 96), np.uint8))
    page.load()
    page.open("case_6")
    skipped: list[str] = []
    for key in ("n", "k", "k", "n"):
        before = str(page.opened)
        page.keys(key)
        page.until(f"{OPENED} !== arguments[0] && {SHOWN}", before)
        skipped += [before] * (key == "k")
        assert page.opened not in {*skipped, before, "case_0"}
    assert [page.text(f'#images [data-id="{image}"] .marks') for image in skipped] == ["skipped", "skipped"]


def test_training_shows_progress_and_dice(server, page, images):
    for index in range(4):
        server.put_label(f"case_{index}", bright(images, f"case_{index}"))
    page.load()
    page.run("document.querySelector('#epochs').value = 6")  # an epoch may be shorter than the page's interval
    page.click("#train")
    page.until("/^Epoch [1-6] of 6$/.test(document.querySelector('#epoch').textContent)", seconds=300)
    page.until("document.querySelector('#training').dataset.status === 'done'", seconds=300)
    shown = page.text("#dice")
    training = server.get_json("/page/train")
    before, after = (f"{training[key]:.3f}" for key in ("dice_before", "dice_after"))
    assert shown.startswith(f"Dice {before} → {after} on ")
    assert page.run("return document.querySelectorAll('#plot circle.after').length") == 1
    page.until_said("The training is done.")


def test_a_file_that_is_no_image_is_named(page, images):
    (images / "unreadable.png").write_bytes(b"no image any more")
    page.click('#images [data-id="unreadable"]')
    page.until("!document.querySelector('#notice').hidden")
    assert "unreadable" in page.text("#notice")
    assert page.kind == "error"
    assert page.run("return document.querySelector('#save').disabled")
    page.open("case_7")
    assert page.run("return document.querySelector('#notice').hidden")


def test_busy_server_is_asked_again(server, page):
    page.instead("page/prediction?id=case_7", "GET", 503, {"detail": "The server is busy."}, reload=True)
    page.instead("page/next", "POST", 200, {"id": "case_6"}, 9, reload=True)  # case_7 is not loaded before the click
    page.run("sessionStorage.clear()")
    page.load()
    page.click('#images [data-id="case_7"]')
    page.until("document.querySelector('#status').textContent === 'No prediction. The server is busy.'")
    assert not page.mask().any()
    page.until("document.querySelector('#status').textContent === ''")
    np.testing.assert_array_equal(page.mask(), server.prediction("case_7") > 0)


def test_failed_training_is_a_sentence(server, page):
    page.train({**server.get_json("/page/train"), "status": "failed", "detail": "No space is left."})
    page.until("document.querySelector('#training').dataset.status === 'failed'")
    # the image is opened anew after a training, and the sentence comes back after that: both in one look
    page.until(
        "(({ textContent, dataset }) => textContent === 'The training failed. No space is left.'"
        " && dataset.kind === 'error')(document.querySelector('#status'))"
    )


def test_classes_and_a_refused_save(server, page):
    """Keys choose classes; what the server refuses is said in its words, and the strokes stay."""
    classes = [{"value": 1, "name": "one", "color": "#ff0000"}, {"value": 2, "name": "two", "color": "#0080ff"}]
    state = {**server.get_json("/page/state"), "classes": classes}
    page.instead("page/state", "GET", 200, state, reload=True)
    page.load()
    page.open("case_7")
    page.keys(DELETE, "2")
    assert page.run("return document.querySelector('#classes input:checked').parentElement.title") == "two (2)"
    (dot,) = page.draw((0.5, 0.5))
    x, y = page.place().pixel(dot)
    page.until("!document.querySelector('[data-command=undo]').disabled")
    script = "return [...document.querySelector('#mask').getContext('2d').getImageData(...arguments, 1, 1).data]"
    assert page.run(script, x, y) == [0, 128, 255, 255]
    page.keys("s")
    page.until("document.querySelector('#status').dataset.kind === 'error'")
    said = page.text("#status")
    assert said.startswith("Not saved. Your strokes are kept. ")
    assert len(said) > 50
    assert page.unsaved


def test_pan_zoom_and_fingers(page):
    """Wheel, middle button, Space and two fingers: none of them draws; one finger does."""
    page.open("case_6")
    start, at = page.place(), page.at(0.4, 0.45)
    page.run(
        "document.querySelector('#stage').dispatchEvent(new WheelEvent('wheel',"
        " { deltaY: -300, clientX: arguments[0], clientY: arguments[1], cancelable: true }))",
        *at,
    )
    zoomed = page.place()
    assert zoomed.scale > 1.2 * start.scale
    assert zoomed.pixel(at) == start.pixel(at)
    page.drag([at, (at[0] + 40, at[1] + 30)], button=1)
    panned = page.place()
    assert (panned.left - zoomed.left, panned.top - zoomed.top) == (40, 30)
    page.actions().key_down(" ").perform()
    page.drag([at, (at[0] - 40, at[1] - 30)])
    page.actions().key_up(" ").perform()
    assert page.place() == zoomed
    page.touch([at], [(at[0], at[1]), (at[0] + 100, at[1])], [(at[0] - 50, at[1]), (at[0] + 150, at[1])])
    assert page.place().scale > 1.5 * zoomed.scale
    assert not page.unsaved
    page.keys("0", DELETE)
    page.touch([at], [(at[0] + 30, at[1])])
    expected = np.zeros((72, 144), np.uint8)
    draw_line(expected, [start.pixel(at), start.pixel((at[0] + 30, at[1]))], 15, 1)
    np.testing.assert_array_equal(page.mask(), expected)


def test_strokes_outlive_the_server(tmp_path, monkeypatch):
    """Saving to a server that is gone says so; after a new start, with another token, the strokes are there again."""
    draw_cases(tmp_path, 2, (104, 72), step=0)
    port = support.free_port()
    monkeypatch.setattr(support, "free_port", lambda: port)
    given = tmp_path / "work", tmp_path / "images"
    stopped = pytest.raises(AssertionError, match="did not live to the end")  # as it must
    with stopped, labelling(*given) as first, browsing(first.address) as page:
        page.open("case_1")
        page.draw((0.3, 0.3), (0.6, 0.4))
        drawn = page.mask()
        os.kill(first.pid, signal.SIGTERM)
        os.waitpid(first.pid, 0)
        page.keys("s")
        page.until_said("Not saved. Your strokes are kept. The server does not answer.")
        assert page.unsaved
        np.testing.assert_array_equal(page.mask(), drawn)
        with labelling(*given) as second:
            assert second.address != first.address
            page.address = second.address
            page.load()
            page.until_state("unsaved strokes")
            np.testing.assert_array_equal(page.mask(), drawn)
            page.save()
            np.testing.assert_array_equal(second.saved("case_1") > 0, drawn > 0)
