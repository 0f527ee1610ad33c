# SPDX-License-Identifier: Apache-2.0
"""A real labelling server in a process of its own, and calls to it: what the tests of this folder share."""

import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ...conftest import ROOT, draw_pair

MODEL = "unetv2_lesion_segmentation"
PRINTED = re.compile(r"^Page: (http://\S+)", re.MULTILINE)
JSON, PNG = {"Content-Type": "application/json"}, {"Content-Type": "image/png"}
SMALL = ("--set", "image_size=64", "batch_size=2")


def draw_cases(folder: Path, count: int, size: tuple[int, int], step: int) -> Path:
    """Images ``case_0`` and so on, each ``step`` wider than the one before, with masks. Returns the images' folder."""
    for index in range(count):
        draw_pair(folder, f"case_{index}", size[0] + step * index, size[1], seed=index)
    return folder / "images"


def bright(folder: Path, image: str) -> np.ndarray:
    """The disc of an image that ``draw_pair`` drew into a folder, as 0 and 1."""
    with Image.open(next(folder.glob(f"{image}.*"))) as opened:
        return (np.asarray(opened.convert("L")) > 110).astype(np.uint8)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks of 0 and 1, not both empty."""
    return 2 * (one & other).sum() / (int(one.sum()) + int(other.sum()))


def png(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(written, "PNG")
    return written.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def wait_for(asked: Callable[[], Any], seconds: float = 30) -> Any:
    """What ``asked`` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := asked():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def app_module(name: str, monkeypatch) -> ModuleType:
    """A module of the app, without a server."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "label_app"))
    return importlib.import_module(name)


def plugin(name: str) -> ModuleType:
    """A module of a client that MONAI Label installs."""
    path = Path(sys.prefix) / "monailabel" / "plugins" / name
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


class Server:
    """A running server: its printed address with token and slash, process id, folder, and file of what it prints."""

    def __init__(self, address: str, pid: int, work_dir: Path, log: Path) -> None:
        from monailabel.client import MONAILabelClient

        self.address, self.url = address, address.rstrip("/")
        self.pid, self.work_dir, self.log = pid, work_dir, log
        self.weights = work_dir / "app" / "model" / MODEL / "models" / "model.pt"
        self.client = MONAILabelClient(self.url, tmpdir=str(work_dir))

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, bytes]:
        """Status and content of the answer to a call below the address; ``path`` begins with a slash."""
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, path: str, body: dict | None = None) -> tuple[int, Any]:
        status, answer = self.call("POST", path, json.dumps(body or {}).encode(), JSON)
        return status, json.loads(answer or b"{}")

    def get(self, path: str, image: str | None = None) -> bytes:
        """The content of an answer with status 200; ``image`` is the parameter ``id``."""
        status, answer = self.call("GET", path + (f"?id={urllib.parse.quote(image)}" if image is not None else ""))
        assert status == 200, answer
        return answer

    def get_json(self, path: str) -> dict:
        return json.loads(self.get(path))

    def put_label(self, image: str, mask: np.ndarray) -> dict:
        """Save a mask as the page does."""
        status, answer = self.call("PUT", f"/page/label?id={urllib.parse.quote(image)}", png(mask), PNG)
        assert status == 200, answer
        return json.loads(answer)

    def prediction(self, image: str) -> np.ndarray:
        return pixels(self.get("/page/prediction", image))

    def label(self, image: str, ending: str = ".png") -> Path:
        """The file of a label in the work folder."""
        return self.work_dir / "images" / "labels" / "final" / (image + ending)

    def saved(self, image: str) -> np.ndarray:
        with Image.open(self.label(image)) as opened:
            assert (opened.format, opened.mode) == ("PNG", "L")
            return np.array(opened)

    def wait_for_training(self) -> None:
        while (status := self.client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(0.5)
        assert status["status"] == "DONE", "\n".join(status["details"])

    def score(self, **options: int) -> dict:
        """Score the images without a label; the server may be scoring by itself, as after a training."""
        while (answer := self.post(f"/scoring/{MODEL}?run_sync=true", options))[0] == 429:
            time.sleep(0.5)
        assert answer[0] == 200
        return answer[1]


@contextmanager
def serving(command: list[str], work_dir: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Start a server on a free port, wait until it answers, and stop it at the end. It prints into ``log``."""
    port = free_port()
    log = work_dir.with_suffix(".log")
    given = {**os.environ, **(environment or {})}
    with log.open("w") as opened:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=opened, stderr=subprocess.STDOUT, env=given)

    def address() -> str | None:
        assert process.poll() is None, log.read_text()[-3000:]
        printed = PRINTED.search(log.read_text())  # MONAI Label's own command prints none
        found = printed[1] if printed else f"http://127.0.0.1:{port}/"
        with suppress(OSError), urllib.request.urlopen(f"{found.rstrip('/')}/info/", timeout=5):
            return found
        return None

    try:
        yield Server(wait_for(address, 300), process.pid, work_dir, log)
        assert process.poll() is None, "the server did not live to the end"
    finally:
        process.send_signal(signal.SIGTERM)  # by process id, as a user stops it
        process.wait(120)


def label_server(work_dir: Path, *arguments: object) -> list[str]:
    """The command of scripts/label_server.py."""
    script = str(ROOT / "scripts" / "label_server.py")
    return [sys.executable, script, "--work_dir", str(work_dir), *map(str, arguments)]


@contextmanager
def labelling(work_dir: Path, images: Path, *arguments: object, scores: bool = True) -> Iterator[Server]:
    """The server of scripts/label_server.py; ``scores`` is whether it scores images by itself, and writes its list."""
    environment = {} if scores else {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with serving(label_server(work_dir, "--images", images, *arguments), work_dir, environment) as server:
        yield server
