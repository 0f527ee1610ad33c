# SPDX-License-Identifier: Apache-2.0
"""Whole commands of the bundle, as their users wait for them, and the parts of them beside the network."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.bundle import read_config, run_bundle
from common.demo_images import write_demo_data
from common.exports import compare, images_of, inference_config, runner

from unetv2_monai import list_images

from .machine import BFLOAT16, CUDA, Row, show
from .networks import DEFAULT, PATHS, exported_weights
from .stopwatch import RELEASED_ENVIRONMENT, RELEASED_OPTIONS, own_process, peak


@dataclass(frozen=True)
class Command:
    """
    A command of the bundle.

    Args:
        files: config and overlays.
        options: of the command line. Defaults to none.
        environment: variables of the process. Defaults to none.
    """

    files: tuple[str, ...]
    options: Row = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, run_id: str, options: Row, folder: Path, processes: int = 0) -> float:
        """Seconds from the start of the process to its end, with further ``options``; its log goes to ``folder``."""
        given = {**self.options, **options}
        log = folder / "command.log"
        return run_bundle(run_id, self.files, given, self.environment, processes, log).wall


def demo_images(folder: Path) -> Path:
    """72 generated images to train on, of which 64 are trained on, and 33 to segment."""
    data = folder / "images"
    if not data.is_dir():
        write_demo_data(data, train=72, test=33)
    return data


def training_rate(folder: Path, command: Command, batch_size: int, processes: int = 0) -> float:
    """Images a second of the training command in its fastest epoch but the first."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    own = {"dataset_dir": demo_images(folder) / "train", "output_dir": out, "max_epochs": 4, "val_interval": 1000}
    own |= {"val_fraction": 0.11, "check_data": False, "image_size": 256, "batch_size": batch_size}
    command.run("training", own, folder, processes)
    with (out / "metrics.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    images = int(rows[0]["iteration"]) * batch_size * max(processes, 1)
    return images / min(float(row["seconds"]) for row in rows[1:])


def commands(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Inference from the start of the process to its end, and the rate of training."""
    yield inference_command(3 if full else 1, folder)
    yield training_command(2 if full else 1, folder)


def inference_command(rounds: int, folder: Path) -> list[Row]:
    test = demo_images(folder) / "test" / "images"
    one = folder / "one"
    one.mkdir(exist_ok=True)
    shutil.copy(min(test.iterdir()), one)
    count = len(list(test.iterdir()))
    released = {**RELEASED_OPTIONS, "inferer": "$monai.inferers.SimpleInferer()"}
    ways = {
        "released": Command(("inference.json",), released, RELEASED_ENVIRONMENT),
        "default": Command(("inference.json",)),
    }
    if BFLOAT16 and not CUDA:
        ways["options/inference_bf16.yaml"] = Command(("inference.json", "options/inference_bf16.yaml"))
    firsts: dict[str, list[float]] = {name: [] for name in ways}
    wholes: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            own = {"output_dir": folder / "masks", "check_data": False}
            firsts[name].append(command.run("inference", {**own, "dataset_dir": one}, folder))
            wholes[name].append(command.run("inference", {**own, "dataset_dir": test}, folder))
    rows: list[Row] = []
    for name in ways:
        first, whole = statistics.median(firsts[name]), statistics.median(wholes[name])
        rows.append(
            {"path": name, "s to one mask": first, "ms each further image": 1000 * (whole - first) / (count - 1)}
        )
    show(f"run inference, {DEFAULT} at 256 x 256, {count} images", rows)
    return rows


def training_command(rounds: int, folder: Path) -> list[Row]:
    fast = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
    plain: Row = {**RELEASED_OPTIONS}
    if CUDA:
        plain |= {"train#trainer#amp": False, "validate#evaluator#amp": False}
    ways = {
        "released": Command(("train.json",), plain, RELEASED_ENVIRONMENT),
        "default": Command(("train.json",)),
    }
    if BFLOAT16:
        ways[fast] = Command(("train.json", fast))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            rates[name].append(training_rate(folder, command, 16))
    rows: list[Row] = [{"path": name, "images a second": statistics.median(found)} for name, found in rates.items()]
    for row in rows:
        row["speed-up"] = row["images a second"] / rows[0]["images a second"]
    show(f"run training, {DEFAULT}, batches of 16 at 256 x 256", rows)
    return rows


def data(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Images a second that train.json's loader gives in one process, without a network; files repeat."""
    rows: list[Row] = []
    script = "import sys; from benchmarks.commands import load; load(*sys.argv[1:])"
    for number in (100, 1000, 10_000) if full else (100, 300):
        for cache in (1.0, 0.0):
            command = [sys.executable, "-W", "ignore", "-c", script, str(demo_images(folder)), str(number), str(cache)]
            done = subprocess.run(command, capture_output=True, text=True, env=own_process(), check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    show("Loading of training images, 256 x 256, one process", rows)
    yield rows


def load(dataset_dir: str, number: str, cache_rate: str) -> None:
    """One process of :py:func:`data`: fill the cache, then one epoch."""
    own = {"dataset_dir": dataset_dir, "check_data": False, "num_workers": 0, "cache_rate": float(cache_rate)}
    parser = read_config(["train.json"], {**own, "train#dataset#progress": False})
    items = parser.get_parsed_content("datalist")["training"]
    parser["train#dataset#data"] = [items[index % len(items)] for index in range(int(number))]
    parser.parse(reset=True)
    before = peak()
    begun = time.perf_counter()
    loader = parser.get_parsed_content("train#dataloader")
    built = time.perf_counter() - begun
    begun = time.perf_counter()
    images = sum(len(batch["image"]) for batch in loader)
    epoch = time.perf_counter() - begun
    grown = peak() - before
    row = {"images": int(number), "cache": float(cache_rate), "ms an image to fill it": 1000 * built / int(number)}
    print(json.dumps({**row, "ms an image of an epoch": 1000 * epoch / images, "MB an image": grown / int(number)}))


def processes(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """One and two processes of one thread (or GPU) each, through torchrun."""
    command = Command(("train.json", "multi_gpu_train.json"), environment={"OMP_NUM_THREADS": "1"})
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3 if full else 1):
        for number in rates:
            rates[number].append(training_rate(folder, command, 8, number))
    one, two = (statistics.median(found) for found in rates.values())
    rows = [{"processes": 1, "images a second": one, "efficiency": 1.0}]
    rows.append({"processes": 2, "images a second": two, "efficiency": two / one / 2})
    show(f"torchrun, {DEFAULT}, 8 images of 256 x 256 in each process", rows)
    yield rows


def agreement(images: Path, checkpoint: Path, size: int, folder: Path) -> Iterator[list[Row]]:
    """Masks of trained weights of the default network by each path against plain PyTorch in float32."""
    network, target = exported_weights(checkpoint, size, folder / "agreement")
    inputs = images_of(list_images(str(images)), inference_config({"image_size": size}))
    rows: list[Row] = []
    for name, path in PATHS.items():
        options = path.options_in(target)
        if options is None:
            continue
        parser = inference_config({"image_size": size, **options}, *path.overlays)
        found = compare(runner(parser, None if path.file else network.state_dict()), network, [], inputs)
        row: Row = {"path": name, "images": len(inputs), "largest logit": found.largest}
        rows.append({**row, "largest difference": f"{found.difference:.1e}", "Dice": f"{found.dice:.6f}"})
    show(f"Agreement with plain PyTorch, {size} x {size}", rows)
    yield rows
