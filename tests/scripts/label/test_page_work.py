# SPDX-License-Identifier: Apache-2.0
"""Work that the page must not lose or hide, in a real browser against the real server: `make test-label`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .attacks import listing
from .browser import OPENED, SHOWN, Page, browsing, fill_polygon, needs_browser
from .support import draw_cases, png

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make label-env")
pytestmark = needs_browser
ENTER, ESCAPE, DELETE, LEFT = "\ue007", "\ue00c", "\ue017", "\ue012"
OPTIONS = ()  # the shipped weights, as a user starts it
ELSEWHERE = "Its mask was saved elsewhere since it was opened here."
VISIBLE = "Number(document.querySelector('#mask').style.opacity) > 0"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    found = draw_cases(tmp_path_factory.mktemp("work_images"), 5, (96, 72), step=8)
    with Image.open(found / "case_0.png") as image:
        grey = np.asarray(image.convert("L"))
    deep = (16 * grey.astype(np.uint16)).clip(100, 3000)  # of 12 bits
    deep[0, 0] = 100
    Image.fromarray(deep).save(found / "deep.png")
    Image.new("RGB", (96, 72), (128, 128, 128)).save(found / "plain.png")
    return found


def test_what_is_drawn_is_seen(page):
    """A hidden mask is shown again by the first stroke, by undo, and on another image."""
    page.open("case_1")
    for change in (page.draw, lambda: page.keys("z", control=True), lambda: page.open("case_2")):
        page.keys("m")
        assert not page.run(f"return {VISIBLE}")
        change()
        assert page.run(f"return {VISIBLE}")
        assert page.run("return document.querySelector('[data-command=hide]').ariaPressed") == "false"


def draw_corners(page: Page) -> np.ndarray:
    """An unfinished polygon on an empty mask, and the mask that it encloses."""
    page.keys(DELETE, "p")
    corners = [page.at(0.3, 0.3), page.at(0.6, 0.35), page.at(0.5, 0.7)]
    for corner in corners:
        page.drag([corner])
    place = page.place()
    mask = np.zeros_like(page.mask())
    assert not page.mask().any()
    fill_polygon(mask, [place.corner(corner) for corner in corners], 1)
    return mask


def test_an_unfinished_polygon_is_not_lost(server, page):
    page.open("case_2")
    expected = draw_corners(page)
    page.save()
    np.testing.assert_array_equal(server.saved("case_2"), expected)
    page.open("case_3")
    expected = draw_corners(page)
    page.open("case_1")
    page.open("case_3")
    page.until_state("unsaved strokes")
    np.testing.assert_array_equal(page.mask(), expected)
    page.keys("z", control=True)
    expected = draw_corners(page)
    page.keys("b")  # another tool
    np.testing.assert_array_equal(page.mask(), expected)
    expected = draw_corners(page)
    page.click("[data-command=save_next]")  # the key for it, Enter, would first close the polygon alone
    page.until(f"{OPENED} !== 'case_3'")
    np.testing.assert_array_equal(server.saved("case_3"), expected)


def test_saved_back_and_withdrawn(server, page, images):
    """Enter says what it saved; back to it; its label is moved out of the labels, and nothing of the user's changes."""
    before = listing(images)
    page.open("case_0")
    page.draw()
    drawn = page.mask()
    page.keys(ENTER)
    page.until(f"{OPENED} !== 'case_0' && {SHOWN}")
    assert page.text("#status") == "Saved case_0."
    page.draw()
    page.until("document.querySelector('#status').textContent === ''")  # it would seem to be about the new strokes
    page.keys("z", control=True)
    page.keys(LEFT)
    page.until_state("corrected")
    assert page.opened == "case_0"
    np.testing.assert_array_equal(server.saved("case_0"), drawn)
    content = server.label("case_0").read_bytes()

    page.keys("w")
    page.until_said("case_0 is not corrected any more. Its mask was moved to withdrawn/case_0.")
    page.until_state("predicted")
    assert page.row("case_0", "state") == "predicted"
    assert not server.label("case_0").exists()
    (moved,) = (server.work_dir / "withdrawn").iterdir()
    assert moved.read_bytes() == content
    assert listing(images) == before
    assert page.run("return document.querySelector('[data-command=withdraw]').disabled")


def test_a_mask_from_another_window_is_not_replaced_unseen(server, page):
    """Also after a reload, since strokes remember which mask they were drawn over, and when it changes once more."""
    page.open("plain")
    page.draw()
    drawn = page.mask()
    for theirs, reload in ((np.ones((72, 96), np.uint8), True), (np.tri(72, 96, dtype=np.uint8), False)):
        server.put_label("plain", theirs)
        page.until_state("unsaved strokes")
        if reload:
            page.load()
            page.open("plain")
            page.until_said("Your strokes that were not saved are back.")
        page.run("document.querySelector('#status').textContent = ''")
        page.keys("s")
        page.until_said(
            "Not saved. Your strokes are kept. Its mask was saved elsewhere since it was opened here. Save "
        )
        np.testing.assert_array_equal(server.saved("plain"), theirs)
        np.testing.assert_array_equal(page.mask(), drawn)
    page.save()
    np.testing.assert_array_equal(server.saved("plain"), drawn)
    page.withdraw()


def test_a_mask_of_an_image_that_was_replaced_is_not_saved(server, page, images):
    page.open("case_4")
    page.draw()
    (images / "case_4.png").write_bytes((images / "case_3.png").read_bytes())
    page.keys("s")
    page.until_said("Not saved. Your strokes are kept. The image was replaced since it was opened here. Open it again.")
    assert not server.label("case_4").exists()
    page.open("case_1")
    page.open("case_4")
    assert page.mask().shape == (72, 120)  # of the new image


def test_a_saved_mask_that_is_not_loaded_is_not_replaced(server, page):
    page.open("case_3")
    page.draw()
    page.save()
    before = server.saved("case_3")
    page.open("case_1")
    page.instead("page/label", "GET", 500, "")
    page.click('#images [data-id="case_3"]')
    page.until_said("The saved mask was not loaded. ")
    assert page.run("return document.querySelector('#save').disabled")
    page.draw((0.2, 0.2), (0.3, 0.2))
    page.keys(DELETE, "s", ENTER)
    page.open("case_1")
    np.testing.assert_array_equal(server.saved("case_3"), before)
    page.open("case_3")
    np.testing.assert_array_equal(page.mask(), before)
    page.withdraw()


def test_a_label_that_was_removed_by_hand(server, page):
    page.open("case_4")
    page.draw()
    page.save()
    page.open("case_1")
    server.label("case_4").unlink()
    page.open("case_4")
    page.until_said("The saved mask of case_4 is gone.")
    page.until_state("predicted")
    assert page.row("case_4", "state") == "predicted"


def test_after_a_training_an_undone_image_is_predicted_anew(server, page):
    page.open("case_1")
    page.draw()
    page.keys("z", control=True)
    page.until_state("predicted")
    page.run("performance.clearResourceTimings()")
    page.train({**server.get_json("/page/train"), "status": "done"})
    asked = "performance.getEntriesByType('resource')"
    page.until(f"{asked}.some((entry) => entry.name.endsWith('page/prediction?id=case_1'))")


def test_more_than_8_bits(server, page):
    """100 to 3000 of 65535: the network and the page get 0 to 255."""
    page.open("deep")
    shown = page.run(
        "const canvas = document.querySelector('#image');"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];"
    )
    values = np.reshape(shown, (72, 96, 4))[..., 0]
    assert (values.min(), values.max()) == (0, 255)
    assert page.text("#open_note").endswith("are shown from black to white, to the network too.")
    page.open("case_1")
    assert page.run("return document.querySelector('#open_note').hidden")


def test_nothing_found_is_said(server, page):
    page.run(
        "const real = window.fetch; const blank = new Uint8Array(arguments[0]);"
        "window.fetch = (address, options) => address === 'page/prediction?id=plain'"
        " ? Promise.resolve(new Response(blank)) : real(address, options);",
        list(png(np.zeros((72, 96)))),
    )
    page.open("plain")
    assert page.text("#status") == "No polyp found."
    assert page.text("#open_state").endswith(" · predicted · no polyp found")


def test_unsaved_strokes_elsewhere_are_named_at_the_end(server, page):
    page.open("case_1")
    page.draw()
    page.until("document.querySelector('#images [data-id=case_1]').dataset.draft === 'true'")
    page.instead("page/next", "POST", 200, {"id": None})
    page.keys("n")
    page.until_said("No other image is left: all others are corrected or skipped, but strokes are not saved on case_1.")


def test_keys_are_shown(page):
    page.keys("?")
    page.until("document.querySelector('#help').open")
    shown = page.text("#help_keys")
    assert "Brush" in shown
    page.keys(ESCAPE)
    page.until("!document.querySelector('#help').open")
    titles = page.run("return [...document.querySelectorAll('[data-command]')].map((button) => button.title)")
    assert all(title.endswith(")") for title in titles)
    assert all(page.run("return [...document.querySelectorAll('button')].map((b) => b.ariaLabel || b.textContent)"))


def test_small_windows(server):
    """No tool is cut off, and the image keeps a place; the larger brush of keyboards without square brackets."""
    for width, height in ((1024, 700), (800, 420)):
        with browsing(server.address, width, height) as page:
            cut = page.run(
                "const bar = document.querySelector('#toolbar'); const edge = bar.getBoundingClientRect().right;"
                "const right = (button) => button.getBoundingClientRect().right;"
                "return [...bar.querySelectorAll('button')].filter((button) => right(button) > edge).length;"
            )
            assert cut == 0
            box = page.stage_box()
            assert min(box[2:]) >= 240
            page.keys("b", ">")
            assert page.text("#size_shown") == "17 px"
            page.keys("<")
            assert page.text("#size_shown") == "15 px"
