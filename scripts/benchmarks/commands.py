# SPDX-License-Identifier: Apache-2.0
"""Whole commands of the bundle, as their users wait for them, and the parts of them beside the network."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import export
import make_demo_data
import torch
from monai.bundle import ConfigParser

from unetv2_monai import InputError, StrictCheckpointLoader

from .machine import CUDA, Row, show
from .networks import PATHS, exported
from .stopwatch import CONFIGS, peak

PLAIN = {"TIMM_FUSED_ATTN": "0"}
RELEASED = {"memory_format": "$torch.contiguous_format", "keep_memory#_disabled_": True}


def bundle(run_id: str, files: Sequence[str], options: Row, environment: dict[str, str], processes: int = 0) -> float:
    """Seconds of a command of monai.bundle, with ``processes`` through torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes else []
    command = [sys.executable, "-W", "ignore", *launch, "-m", "monai.bundle", "run", run_id, "--config_file"]
    command.append(str([str(CONFIGS / name) for name in files]))
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begun


def pictures(folder: Path) -> Path:
    """72 generated pictures to train on, of which 64 are trained on, and 33 to segment."""
    data = folder / "pictures"
    if not data.is_dir():
        with contextlib.redirect_stdout(io.StringIO()):
            make_demo_data.main([str(data), "--train", "72", "--test", "33"])
    return data


def training_rate(
    folder: Path, files: list[str], options: Row, environment: dict[str, str], processes: int = 0
) -> float:
    """Images a second of the training command in its fastest epoch but the first."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    own = {"dataset_dir": pictures(folder) / "train", "output_dir": out, "max_epochs": 4, "val_interval": 1000}
    own |= {"val_fraction": 0.11, "check_data": False, **options}
    bundle("training", files, own, environment, processes)
    with (out / "metrics.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    images = int(rows[0]["iteration"]) * options["batch_size"] * max(processes, 1)
    return images / min(float(row["seconds"]) for row in rows[1:])


def commands(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """From the start of the process to its end."""
    test = pictures(folder) / "test" / "images"
    one = folder / "one"
    one.mkdir(exist_ok=True)
    shutil.copy(min(test.iterdir()), one)
    count = len(list(test.iterdir()))
    released = {**RELEASED, "inferer": "$monai.inferers.SimpleInferer()"}
    ways: dict[str, tuple[list[str], Row, dict[str, str]]] = {
        "released": ([], released, PLAIN),
        "default": ([], {}, {}),
    }
    if not CUDA:
        ways["options/inference_bf16.yaml"] = (["options/inference_bf16.yaml"], {}, {})
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(3 if full else 1):
        for name, (overlays, options, environment) in ways.items():
            own = {**options, "output_dir": folder / "masks", "check_data": False}
            files = ["inference.json", *overlays]
            first, whole = (bundle("inference", files, {**own, "dataset_dir": d}, environment) for d in (one, test))
            turns[name].append((first, whole))
    rows: list[Row] = []
    for name, seconds in turns.items():
        first, whole = (statistics.median(values) for values in zip(*seconds))
        rows.append(
            {"path": name, "s to one mask": first, "ms each further image": 1000 * (whole - first) / (count - 1)}
        )
    show(f"run inference, pvt_v2_b0 at 256 x 256, {count} images", rows)
    yield rows

    fast = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
    plain: Row = {**RELEASED, **({"train#trainer#amp": False, "validate#evaluator#amp": False} if CUDA else {})}
    trainings: dict[str, tuple[list[str], Row, dict[str, str]]] = {
        "released": (["train.json"], plain, PLAIN),
        "default": (["train.json"], {}, {}),
        fast: (["train.json", fast], {}, {}),
    }
    rates: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(2 if full else 1):
        for name, (files, options, environment) in trainings.items():
            own = {"image_size": 256, "batch_size": 16, **options}
            rates[name].append(training_rate(folder, files, own, environment))
    trained: list[Row] = [{"path": name, "images a second": statistics.median(found)} for name, found in rates.items()]
    for row in trained:
        row["speed-up"] = row["images a second"] / trained[0]["images a second"]
    show("run training, pvt_v2_b0, batches of 16 at 256 x 256", trained)
    yield trained


def data(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Images a second that train.json's loader gives in one process, without a network; files repeat."""
    rows: list[Row] = []
    script = "import sys; from benchmarks.commands import load; load(*sys.argv[1:])"
    for number in (100, 1000, 10_000) if full else (100, 300):
        for cache in (1.0, 0.0):
            command = [sys.executable, "-W", "ignore", "-c", script, str(pictures(folder)), str(number), str(cache)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    show("Loading of training images, 256 x 256, one process", rows)
    yield rows


def load(dataset_dir: str, number: str, cache_rate: str) -> None:
    """One process of :py:func:`data`: the first and the second epoch."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    own = {"dataset_dir": dataset_dir, "check_data": False, "num_workers": 0, "cache_rate": float(cache_rate)}
    parser.update({**own, "train#dataset#progress": False})
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
    files, own = ["train.json", "multi_gpu_train.json"], {"image_size": 256, "batch_size": 8}
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3 if full else 1):
        for number in rates:
            rates[number].append(training_rate(folder, files, own, {"OMP_NUM_THREADS": "1"}, number))
    one, two = (statistics.median(found) for found in rates.values())
    rows = [{"processes": 1, "images a second": one, "efficiency": 1.0}]
    rows.append({"processes": 2, "images a second": two, "efficiency": two / one / 2})
    show("torchrun, pvt_v2_b0, 8 images of 256 x 256 in each process", rows)
    yield rows


def agreement(images: Path, checkpoint: Path, size: int, folder: Path) -> Iterator[list[Row]]:
    """Masks of trained weights (pvt_v2_b0) by each path against plain PyTorch in float32."""
    base = export.config({"image_size": size, "device": torch.device("cpu")})
    network: Any = base.get_parsed_content("network_def").eval()
    StrictCheckpointLoader(str(checkpoint), {"model": network})
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(state.get("model", state))
    target = exported("pvt_v2_b0", folder / "agreement", network.state_dict())
    inputs = export.images_of(images, base)
    if not inputs:
        raise InputError(f"{images} holds no images.")
    rows: list[Row] = []
    for name, (overlay, options, _) in PATHS.items():
        file = target / options.get("checkpoint", "model.pt")
        if not file.is_file():
            continue
        overlays = [f"{overlay}.yaml"] if overlay else []
        parser = export.config({"image_size": size, **options, "checkpoint": str(file)}, *overlays)
        inferer, loaded = (parser.get_parsed_content(key) for key in ("inferer", "network"))
        if overlay in (None, "inference_bf16"):
            loaded.load_state_dict(network.state_dict())
        with torch.no_grad():
            loaded.eval()
            difference, largest, dice = export.compare(lambda x, i=inferer, n=loaded: i(x, n), network, [], inputs)
        row = {"path": name, "images": len(inputs), "largest logit": largest, "largest difference": f"{difference:.1e}"}
        rows.append({**row, "Dice": f"{dice:.6f}"})
    show(f"Agreement with plain PyTorch, {size} x {size}", rows)
    yield rows
