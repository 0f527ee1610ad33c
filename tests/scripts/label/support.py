# SPDX-License-Identifier: Apache-2.0
"""A real labelling server in a process of its own, and calls to it: what the tests of this folder share."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...conftest import ROOT, draw_pair

MODEL = "unetv2_lesion_segmentation"
PRINTED = re.compile(r"^Page: (http://\S+)", re.MULTILINE)


def draw_cases(folder: Path, count: int, size: tuple[int, int], step: int) -> Path:
    """Images ``case_0`` and so on, each ``step`` wider than the one before, with masks. Returns the images' folder."""
    for index in range(count):
        draw_pair(folder, f"case_{index}", size[0] + step * index, size[1], seed=index)
    return folder / "images"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


class Server:
    """
    A running server.

    Args:
        address: the printed one, with token and the slash at its end.
        pid: process id of what was started.
        work_dir: its folder.
        log: file of all that it prints.
    """

    def __init__(self, address: str, pid: int, work_dir: Path, log: Path) -> None:
        from monailabel.client import MONAILabelClient

        self.address, self.url = address, address.rstrip("/")
        self.pid, self.work_dir, self.log = pid, work_dir, log
        self.client = MONAILabelClient(self.url, tmpdir=str(work_dir))

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and content of the answer to a call below the address; ``path`` begins with a slash."""
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, path: str, body: dict | None = None) -> tuple[int, dict | str]:
        status, answer = self.call("POST", path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"})
        return status, json.loads(answer or b"{}") if status < 300 else answer.decode()

    def get_json(self, path: str) -> dict:
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return json.loads(answer)

    def wait_for_training(self) -> list[str]:
        while True:
            status = self.client.train_status()
            if status["status"] not in ("SUBMITTED", "RUNNING"):
                assert status["status"] == "DONE", "\n".join(status["details"])
                return status["details"]
            time.sleep(0.5)


@contextmanager
def serving(command: list[str], work_dir: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """
    Start a server on a free port, wait until it answers, and stop it at the end.

    Args:
        command: such as :py:func:`label_server` gives, without ``--port``.
        work_dir: its folder; what it prints goes to a file beside it.
        environment: added to that of the tests.
    """
    port = free_port()
    log = work_dir.with_suffix(".log")
    with log.open("w") as opened:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=opened, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()[-3000:]
            printed = PRINTED.search(log.read_text())  # MONAI Label's own command prints none
            address = printed[1] if printed else f"http://127.0.0.1:{port}/"
            try:
                urllib.request.urlopen(f"{address.rstrip('/')}/info/", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield Server(address, process.pid, work_dir, log)
        assert process.poll() is None, "the server did not live to the end"
    finally:
        process.send_signal(signal.SIGTERM)  # by process id, as a user stops it
        process.wait(30)


def label_server(work_dir: Path, *arguments: object) -> list[str]:
    """The command of scripts/label_server.py."""
    script = str(ROOT / "scripts" / "label_server.py")
    return [sys.executable, script, "--work_dir", str(work_dir), *map(str, arguments)]
