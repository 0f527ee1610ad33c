# SPDX-License-Identifier: Apache-2.0
"""scripts/segment.py as its users wait for it, beside `run inference` with the same exported file."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.bundle import BUNDLE, ROOT
from common.command import RUNTIME_PYTHON

from unetv2_monai import InputError

from .commands import Command
from .machine import Row, show

SCRIPTS = ROOT / "scripts"
OPENVINO = Command(("inference.json", "options/inference_openvino.yaml"))
DRAWN = 100  # images, which a folder holds several times


def seconds(command: Sequence[object]) -> float:
    """From the start of a process to its end."""
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{Path(str(command[1])).name} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def prepare(folder: Path, images: int, frames: int) -> Path:
    """
    The shipped weights for OpenVINO, ``video.mp4``, and drawn images in ``many/``, of which the first is ``one.png``;
    kept for the next call.

    Returns:
        The exported file.
    """
    weights, model = BUNDLE / "models" / "model.pt", folder / "model.xml"  # which is written last
    if model.is_file() and model.stat().st_mtime > weights.stat().st_mtime:
        return model
    shutil.rmtree(folder, ignore_errors=True)
    draw = [sys.executable, SCRIPTS / "make_demo_data.py", folder, "--train", 0, "--test", min(images, DRAWN)]
    seconds([*draw, "--video", frames])
    (folder / "many").mkdir()
    drawn = sorted((folder / "test" / "images").iterdir())
    for index in range(images):
        path = drawn[index % len(drawn)]
        shutil.copy(path, folder / "many" / f"frame_{index:04d}{path.suffix}")
    shutil.copy(drawn[0], folder / "one.png")
    export = [sys.executable, "-W", "ignore", SCRIPTS / "export.py", "--checkpoint", weights]
    seconds([*export, "--formats", "openvino", "--output_dir", folder])
    return model


def segmenting(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """First mask, frames a second of a video, and images a second of a folder; all from start to end of a process."""
    images, frames, rounds = (1000, 500, 3) if full else (300, 250, 1)
    own, out = folder / f"segmenting_{images}_{frames}", folder / "segmented"
    model = prepare(own, images, frames)
    python = RUNTIME_PYTHON if RUNTIME_PYTHON.is_file() else Path(sys.executable)
    found: dict[str, list[float]] = {}

    def turn(name: str, *arguments: object) -> None:
        shutil.rmtree(out, ignore_errors=True)
        command = [python, SCRIPTS / "segment.py", model, *arguments, "--output_dir", out]
        found.setdefault(name, []).append(seconds(command))

    turn("one image", own / "one.png")  # reads the files of the environment
    found.clear()
    for _ in range(10 if full else 3):
        turn("one image", own / "one.png")
    for _ in range(rounds):
        turn("video", own / "video.mp4")
        turn("folder, with overlays", own / "many")
        turn("folder", own / "many", "--no_overlays")
        shutil.rmtree(out, ignore_errors=True)
        options = {"dataset_dir": own / "many", "output_dir": out, "checkpoint": model}
        found.setdefault("folder, run inference", []).append(OPENVINO.run("inference", options, folder))
    counts = {"one image": 1, "video": frames}
    slowest = statistics.median(found["folder, run inference"])
    rows: list[Row] = []
    for name, every in found.items():
        middle, count = statistics.median(every), counts.get(name, images)
        row = {"input": name, "images": count, "s": middle, "images a second": count / middle}
        rows.append(row | ({"to run inference": slowest / middle} if name.startswith("folder") else {}))
    show("segment.py with OpenVINO in float32, the shipped weights; video of 1280 x 720", rows)
    yield rows
