# SPDX-License-Identifier: Apache-2.0
"""Parts of the labelling page by themselves, in a real browser: masks, undo, PNG files. No server of MONAI Label."""

import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from ...conftest import ROOT
from .browser import Page, browsing, draw_line, fill_polygon, needs_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def modules() -> Iterator[Page]:
    """A browser that can load the page's modules."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(ROOT / "scripts" / "label_app"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        with browsing(f"http://127.0.0.1:{files.server_port}/", app=False) as opened:
            yield opened
        files.shutdown()


def test_masks_in_javascript_equal_numpy(modules):
    """Random lines and polygons, also partly outside, with values of several classes."""
    rng = np.random.default_rng(0)
    shapes, expected = [], np.zeros((41, 53), np.uint8)
    for index in range(60):
        value = index % 4
        points = rng.integers(-12, 60, (int(rng.integers(3, 8)), 2)).tolist()
        if index % 2:
            shapes.append(["polygon", points, value])
            fill_polygon(expected, points, value)
        else:
            diameter = 2 * int(rng.integers(0, 9)) + 1
            shapes.append(["line", points[:2], value, diameter])
            draw_line(expected, points[:2], diameter, value)
    found = modules.module(
        """
        const { Mask, drawLine, fillPolygon } = await load("mask.js");
        const mask = new Mask(53, 41);
        for (const [kind, points, value, diameter] of given[0]) {
            const [first, ...others] = points.map(([x, y]) => ({ x, y }));
            if (kind === "line") drawLine(mask, first, others[0], diameter, value);
            else fillPolygon(mask, [first, ...others], value);
        }
        return [...mask.data];
        """,
        shapes,
    )
    np.testing.assert_array_equal(np.reshape(found, expected.shape), expected)
    assert set(np.unique(expected)) == {0, 1, 2, 3}


def test_undo_is_exact_and_bounded(modules):
    """Undo to the oldest kept step and redo to the last, with room for a few steps only."""
    states = modules.module(
        """
        const { Mask, drawLine } = await load("mask.js");
        const { History } = await load("history.js");
        const mask = new Mask(40, 30);
        const history = new History(mask, 3000);
        const states = [[...mask.data].join("")];
        for (let k = 0; k < 12; k++) {
            const rect = drawLine(mask, { x: 3 * k, y: 5 }, { x: 40 - 2 * k, y: 25 }, 5, (k % 3) + 1);
            history.commit(rect);
            states.push([...mask.data].join(""));
        }
        const back = [];
        while (history.undo()) back.push([...mask.data].join(""));
        const start = history.state === history.start;
        const forth = [];
        while (history.redo()) forth.push([...mask.data].join(""));
        return { states, back, forth, start };
        """
    )
    all_states, back, forth = states["states"], states["back"], states["forth"]
    assert 1 < len(back) < 12
    assert back == all_states[::-1][1 : len(back) + 1]
    assert forth == all_states[-len(back) :]
    assert states["start"]


@pytest.mark.parametrize("optimize", [False, True])
def test_png_both_ways(modules, optimize):
    """PNG files as Pillow writes them, with every filter by row, and as the page writes them."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:61, :83]
    mask = (3 * (np.hypot(x - 40, y - 30) < 20) + (x + y > 100) + rng.integers(0, 2, x.shape)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", optimize=optimize)
    width, height, values, written = modules.module(
        """
        const { decode, encode } = await load("png.js");
        const mask = await decode(new Uint8Array(given[0]).buffer);
        const file = new Uint8Array(await (await encode(mask)).arrayBuffer());
        return [mask.width, mask.height, [...mask.data], [...file]];
        """,
        list(file.getvalue()),
    )
    assert (width, height) == (83, 61)
    np.testing.assert_array_equal(np.reshape(values, mask.shape), mask)
    with Image.open(io.BytesIO(bytes(written))) as opened:
        assert opened.mode == "L"
        np.testing.assert_array_equal(np.asarray(opened), mask)


PANEL = """
    document.body.innerHTML = `<p id="status"></p><section id="training"><form><input id="epochs" type="number" />
        <button id="train"></button></form><progress></progress><p id="epoch"></p><p id="dice"></p>
        <svg id="plot"></svg><p id="no_plot"></p></section>`;
    const { TrainingPanel } = await load("training.js");
    const panel = new TrainingPanel(document.querySelector("#training"));
    panel.setLabelled(9);
    const idle = { status: "idle", epoch: 0, max_epochs: 6, detail: "", held_out: 2, unchanged: 0, dice_before: null,
        dice_after: null, previous_kept: false, history: [] };
    return given[0].map((changes) => {
        panel.set({ ...idle, ...changes }, 50);
        return ["#epoch", "#dice"].map((part) => document.querySelector(part).textContent);
    });
"""


def test_sentences_about_trainings(modules):
    found = modules.module(
        PANEL,
        [
            {"status": "stopped", "dice_before": 0.982},
            {"status": "stopped", "epoch": 1, "max_epochs": 1, "dice_before": 0.5, "dice_after": 0.25,
             "previous_kept": True},
            {"status": "done", "epoch": 1, "max_epochs": 1, "held_out": 1, "dice_before": 0.5, "dice_after": 0.75},
            {"status": "done", "epoch": 6, "held_out": 2, "unchanged": 1, "dice_before": 0.5, "dice_after": 0.75},
            {"status": "done", "epoch": 6, "held_out": 2, "unchanged": 2},
            {"status": "done", "epoch": 6, "dice_after": 0.75},
        ],
    )  # fmt: skip
    assert found == [
        ["Stopped before the first epoch ended", "Dice 0.982 before, on 2 held-out labels"],
        ["Stopped after 1 of 1 epoch, previous weights kept", "Dice 0.500 → 0.250 on 2 held-out labels"],
        ["Done, 1 epoch", "Dice 0.500 → 0.750 on 1 held-out label"],
        ["Done, 6 epochs", "Dice 0.500 → 0.750 on 1 held-out label, 1 more left out: unchanged prediction"],
        ["Done, 6 epochs", "Dice: none, held out are unchanged predictions only"],
        ["Done, 6 epochs", "Dice 0.750 on 2 held-out labels"],
    ]


def test_the_plot_holds_its_points(modules):
    """The axis ends at a round number behind the last point; a refused training is one dot, not part of the line."""
    points = modules.module(
        """
        const { drawPlot } = await load("plot.js");
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        drawPlot(svg, given[0]);
        const ticks = [...svg.querySelectorAll("text[text-anchor=middle]")];
        const dots = [...svg.querySelectorAll("circle")].map((dot) => [
            dot.getAttribute("class"), Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy")) ]);
        return { last: [ticks.at(-1).textContent, Number(ticks.at(-1).getAttribute("x"))], dots };
        """,
        [
            {"labels": 6, "held_out": 1, "dice_before": 0.5, "dice_after": 0.8},
            {"labels": 12, "held_out": 2, "dice_before": 0.8, "dice_after": 0.6, "previous_kept": True},
        ],
    )
    number, edge = points["last"]
    kinds, places, heights = zip(*points["dots"])
    assert number == "15"
    assert places[-1] == pytest.approx(28 + (edge - 28) * 12 / 15)
    assert kinds == ("before", "after", "before", "refused", "after")
    assert heights[4] == heights[2] == heights[1] < heights[3]
