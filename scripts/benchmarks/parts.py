# SPDX-License-Identifier: Apache-2.0
"""The tables of ``benchmark.py``: times of forward passes, of training steps, and of whole commands."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from common.bundle import BUNDLE, ROOT, read_config, run_bundle
from common.command import RUNTIME_PYTHON
from common.exports import FORMATS, export, inference_config

from unetv2_monai import InputError, load_weights

from .timing import BFLOAT16, CUDA, Row, Variant, count, timed

DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
FAST = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
NOISE = [torch.randn(2, 3, 97, 75)]  # input for the comparison of an exported file
COUNTED: dict[str, Row] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b2": {"backbone": "pvt_v2_b2"},
    "b2 without SDI": {"backbone": "pvt_v2_b2", "sdi": False},
    "b2, interpolation": {"backbone": "pvt_v2_b2", "upsample": "interp"},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}
Table = tuple[str, list[Row]]  # its title and rows


def counts(full: bool) -> Iterator[Table]:
    """Count parameters and multiply-accumulates of our variants; nothing is timed."""
    rows = []
    for name, arguments in COUNTED.items():
        parameters, macs = count({"_target_": "unetv2_monai.UNetV2", **arguments}, 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    yield "Variants at 256 x 256", rows


def inference(full: bool) -> Iterator[Table]:
    """Time a forward pass of inference.json and, if ``full``, of its overlays for exported files."""
    shapes = [(1, 256), (1, 352), (8, 352), (1, 1024)] if full else [(1, 352), (8, 352)]
    for backbone in BACKBONES:
        default = Variant(options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        if BFLOAT16:
            variants["bfloat16"] = replace(default, overlays=("options/inference_bf16.yaml",))
        with TemporaryDirectory() as folder:
            if full and not CUDA:
                variants |= exported(backbone, Path(folder))
            yield f"Inference, {backbone}", timed(variants, shapes, network=backbone)


def exported(backbone: str, folder: Path) -> dict[str, Variant]:
    """Export a network to the formats that can be made here without training images, and return how to run each."""
    network = inference_config({"backbone": backbone}).get_parsed_content("network_def").eval()
    variants = {}
    for name, one in FORMATS.items():
        if not one.calibrated and not one.missing_packages():
            export(name, network, {"backbone": backbone}, folder, NOISE)
            options = {"backbone": backbone, "checkpoint": str(folder / one.file)}
            variants[one.runtime] = Variant(overlays=(f"options/inference_{one.overlay}.yaml",), options=options)
    if BFLOAT16 and (openvino := variants.get("OpenVINO")):
        variants["OpenVINO, bfloat16"] = replace(openvino, options={**openvino.options, "precision": "bf16"})
    return variants


def training(full: bool) -> Iterator[Table]:
    """Time a step of train.json: forward, loss, backward, optimiser."""
    shapes = [(16, 352)] if CUDA else [(16, 256)] if full else [(4, 256)]
    for backbone in BACKBONES if full else (DEFAULT,):
        default = Variant("training", options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        variants["recommended"] = replace(default, overlays=("recipes/recommended.yaml",))
        if BFLOAT16:
            variants[FAST] = replace(default, overlays=(FAST,))
        if full:
            again = {**default.options, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = replace(default, options=again)
        yield f"A training step, {backbone}", timed(variants, shapes, network=backbone)


def segmenting(full: bool) -> Iterator[Table]:
    """Time segment.py from start to end on one image, a video and a folder, and ``run inference`` to compare."""
    images, frames, rounds = (1000, 500, 3) if full else (300, 250, 1)
    python = RUNTIME_PYTHON if RUNTIME_PYTHON.is_file() else Path(sys.executable)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, drawn, out = folder / FORMATS["openvino"].file, folder / "drawn", folder / "out"
        network = inference_config({}).get_parsed_content("network_def").eval()
        load_weights(network, BUNDLE / "models" / "model.pt")
        export("openvino", network, {}, folder, NOISE)
        script("make_demo_data.py", drawn, "--train", 0, "--test", images, "--video", frames)
        many = drawn / "test" / "images"
        options = {"checkpoint": model, "dataset_dir": many, "output_dir": out / "bundle"}
        files = ["inference.json", "options/inference_openvino.yaml"]

        def segment(path: Path) -> None:
            script("segment.py", model, path, "--output_dir", out, python=python)

        segment(min(many.iterdir()))  # a first run, which reads the environment's files from disk
        inputs: dict[str, tuple[int, Callable[[], object]]] = {
            "one image": (1, lambda: segment(min(many.iterdir()))),
            "video": (frames, lambda: segment(drawn / "video.mp4")),
            "folder, with overlays": (images, lambda: segment(many)),
            "folder, run inference": (images, lambda: run_bundle("inference", files, options, log=folder / "log")),
        }
        rows: list[Row] = []
        for name, (number, command) in inputs.items():
            taken = median(seconds(command) for _ in range(rounds))
            rows.append({"input": name, "images": number, "s": taken, "images a second": number / taken})
    yield "segment.py with OpenVINO in float32, the shipped weights; video of 1280 x 720", rows


def seconds(command: Callable[[], object]) -> float:
    """Return the seconds that a command takes from start to end."""
    begun = time.perf_counter()
    command()
    return time.perf_counter() - begun


def script(name: str, *arguments: object, python: Path = Path(sys.executable)) -> None:
    """Run a script in a process of its own."""
    command = [str(word) for word in (python, ROOT / "scripts" / name, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{name} failed: {done.stderr[-2000:]}")


PARTS = {"inference": inference, "training": training, "segmenting": segmenting, "counts": counts}
