# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium on the labelling page, and masks drawn in numpy from the same strokes."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from .support import wait_for

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (find_spec("selenium") and CHROMIUM and CHROMEDRIVER),
    reason="no browser: pip install selenium; apt install chromium chromium-driver",
)
WAIT = 60  # seconds
OPENED = "document.querySelector('#images [aria-selected=true]')?.dataset.id"
SHOWN = "document.querySelector('#stage').ariaBusy === 'false'"
Point = tuple[int, int]
ANSWER = """
    const [part, method, status, body, times] = arguments;
    const real = window.fetch;
    let left = times;
    window.fetch = (address, options) =>
        address.includes(part) && (options?.method ?? "GET") === method && left-- > 0
            ? Promise.resolve(new Response(JSON.stringify(body), { status }))
            : real(address, options);
"""


@dataclass(frozen=True)
class Place:
    """Where the image is on the screen: CSS pixels of its top left corner, and for one of its pixels."""

    left: float
    top: float
    scale: float

    def pixel(self, point: Point) -> Point:
        """The pixel of the image at a place of the screen."""
        return int((point[0] - self.left) // self.scale), int((point[1] - self.top) // self.scale)

    def corner(self, point: Point) -> Point:
        """The corner of a pixel that is nearest to a place of the screen."""
        return round((point[0] - self.left) / self.scale), round((point[1] - self.top) / self.scale)


def row_of(image: str) -> str:
    return f'#images [data-id="{image}"]'


class Page:
    """The page in a browser of selenium."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def load(self) -> None:
        self.driver.get(self.address)
        self.until("document.body.ariaBusy === 'false'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: str, *arguments: Any, seconds: float = WAIT) -> None:
        try:
            wait_for(lambda: self.run(f"return Boolean({condition})", *arguments), seconds)
        except Exception as error:
            status = self.run("return document.querySelector('#status')?.textContent")
            raise AssertionError(f"never true: {condition} {arguments}; status: {status}") from error

    def until_state(self, state: str) -> None:
        """Wait for what is said of the image: unsaved strokes, or else new, predicted or corrected."""
        said = "document.querySelector('#open_state').textContent.split(' · ')"
        stated = f"{said}.find((part) => part === 'unsaved strokes') ?? {said}[1]"
        self.until(f"{SHOWN} && ({stated}) === arguments[0]", state)

    @property
    def opened(self) -> str | None:
        """The id of the open image."""
        return self.run(f"return {OPENED}")

    @property
    def kind(self) -> str:
        """Of what the status line says: info, busy, ok or error; its colour follows."""
        return self.run("return document.querySelector('#status').dataset.kind")

    @property
    def unsaved(self) -> bool:
        return self.text("#open_state").endswith("unsaved strokes")

    def until_said(self, start: str) -> None:
        """Wait for a sentence in the status line."""
        self.until("document.querySelector('#status').textContent.startsWith(arguments[0])", start)

    def save(self) -> None:
        self.keys("s")
        self.until_state("corrected")

    def withdraw(self) -> None:
        self.keys("w")
        self.until_state("predicted")

    def draw(self, *points: tuple[float, float]) -> list[Point]:
        """Draw through places of the stage, by default a short line. Returns them on the screen."""
        drawn = [self.at(*point) for point in points or ((0.4, 0.4), (0.5, 0.4))]
        self.drag(drawn)
        return drawn

    def instead(self, part: str, method: str, status: int, body: Any, times: int = 1, reload: bool = False) -> None:
        """Answer calls with this part in their address in place of the server, at once or after the next load."""
        given = (part, method, status, body, times)
        if reload:
            source = f"(function () {{ {ANSWER} }})(...{json.dumps(given)});"
            self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        else:
            self.run(ANSWER, *given)

    def train(self, state: dict[str, Any]) -> None:
        """Start a training, of which the server answers that it is in this state at once."""
        self.instead("page/train", "POST", 202, {**state, "status": "running"})
        self.instead("page/train", "GET", 200, state)
        self.run("const button = document.querySelector('#train'); button.disabled = false; button.click();")

    def row(self, image: str, name: str) -> str | None:
        """What styles the row of an image: ``state`` or ``draft``."""
        return self.run("return document.querySelector(arguments[0]).dataset[arguments[1]]", row_of(image), name)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def open(self, image: str) -> float:
        """Click an image of the list; seconds until its mask is shown."""
        start = time.perf_counter()
        self.click(row_of(image))
        self.until(f"{OPENED} === arguments[0] && {SHOWN}", image)
        return round(time.perf_counter() - start, 2)

    def keys(self, *keys: str, control: bool = False) -> None:
        from selenium.webdriver.common.keys import Keys

        actions = self.actions()
        if control:
            actions.key_down(Keys.CONTROL)
        actions.send_keys(*keys)
        if control:
            actions.key_up(Keys.CONTROL)
        actions.perform()

    def actions(self) -> Any:
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.driver, duration=0)  # one event for each move

    def place(self) -> Place:
        left, top, width, pixels = self.run(
            "const canvas = document.querySelector('#image'); const box = canvas.getBoundingClientRect();"
            "return [box.left, box.top, box.width, canvas.width];"
        )
        return Place(left, top, width / pixels)

    def stage_box(self) -> tuple[float, float, float, float]:
        script = "const box = document.querySelector('#stage').getBoundingClientRect();"
        return tuple(self.run(f"{script} return [box.left, box.top, box.width, box.height];"))

    def at(self, x: float, y: float) -> Point:
        """A place of the screen as parts of the stage's width and height."""
        left, top, width, height = self.stage_box()
        return round(left + x * width), round(top + y * height)

    def drag(self, points: Sequence[Point], button: int = 0) -> None:
        actions = self.actions()
        pointer = actions.w3c_actions.pointer_action.move_to_location(*points[0]).pointer_down(button=button)
        for point in points[1:]:
            pointer.move_to_location(*point)
        pointer.pointer_up(button=button)
        actions.perform()

    def touch(self, *steps: Sequence[Point]) -> None:
        """Fingers on the screen: their places one step after the other; more than before: another finger comes."""
        fingers = 0
        for points in steps:
            kind = "touchStart" if len(points) > fingers else "touchMove"
            fingers = len(points)
            places = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def mask(self) -> np.ndarray:
        """What is marked on the screen, at the image's size: the overlay's pixels that are not transparent."""
        self.run("return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));")  # changes wait for it
        width, height, marked = self.run(
            "const canvas = document.querySelector('#mask'); const { width, height } = canvas;"
            "const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
            "const runs = [0]; let last = 0;"
            "for (let i = 3; i < data.length; i += 4) { const now = data[i] > 0 ? 1 : 0;"
            "if (now !== last) { runs.push(0); last = now; } runs[runs.length - 1]++; }"
            "return [width, height, runs];"
        )
        return np.repeat(np.arange(len(marked)) % 2, marked).reshape(height, width).astype(np.uint8)


@contextmanager
def browsing(address: str, width: int = 1280, height: int = 720) -> Iterator[Page]:
    """A headless Chromium with a fresh profile on the labelling page at ``address``."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.set_script_timeout(WAIT)
        page = Page(driver, address)
        page.load()
        yield page
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        # the browser itself logs answers of 4xx; all else is a fault of the page or against its security policy
        assert not [message for message in severe if "Failed to load resource" not in message]
    finally:
        driver.quit()


def draw_line(mask: np.ndarray, points: Sequence[Point], diameter: int, value: int) -> None:
    """Discs at every step of the lines between pixels, in exact integers."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for k in range(steps + 1):
            cx = x0 + (2 * k * (x1 - x0) + steps) // (2 * steps) if steps else x0
            cy = y0 + (2 * k * (y1 - y0) + steps) // (2 * steps) if steps else y0
            mask[4 * ((x - cx) ** 2 + (y - cy) ** 2) < diameter**2] = value


def fill_polygon(mask: np.ndarray, corners: Sequence[Point], value: int) -> None:
    """Pixels with an odd number of edges left of their centres, or on them; twice all numbers, hence exact."""
    y, x = 2 * np.mgrid[: mask.shape[0], : mask.shape[1]] + 1
    inside = np.zeros(mask.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]]):
        (x0, y0), (x1, y1) = sorted([(2 * x0, 2 * y0), (2 * x1, 2 * y1)], key=lambda corner: corner[1])
        inside ^= (y0 < y) & (y < y1) & ((x - x0) * (y1 - y0) >= (y - y0) * (x1 - x0))
    mask[inside] = value
