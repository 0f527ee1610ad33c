# SPDX-License-Identifier: Apache-2.0
"""The tables of ``benchmark.py``: times of forward passes, of training steps, and of whole commands."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common.bundle import BUNDLE, ROOT, read_config, run_bundle
from common.command import RUNTIME_PYTHON
from common.exports import FORMATS, export, inference_config

from unetv2_monai import InputError, UNetV2, load_weights
from unetv2_monai.core.files import read_csv

from .timing import BFLOAT16, CUDA, Row, Variant, count, new_process, peak, timed

DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
RECIPE = ("recipes/recommended.yaml",)
FAST = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
NOISE = [torch.randn(2, 3, 97, 75)]  # input for the comparison of an exported file
SCRIPTS = ROOT / "scripts"
OURS = {"_target_": "unetv2_monai.UNetV2"}
MONAI = {"in_channels": 3, "out_channels": 1}
Table = tuple[str, list[Row]]  # its title and rows


def smp(name: str, encoder: str) -> Row:
    own = {"encoder_name": encoder, "encoder_weights": None, "in_channels": 3, "classes": 1}
    return {"_target_": f"segmentation_models_pytorch.{name}", **own}


NETWORKS: dict[str, Row] = {
    "U-Net v2, pvt_v2_b2": {**OURS, "backbone": "pvt_v2_b2"},
    f"U-Net v2, {DEFAULT}": {**OURS, "backbone": DEFAULT},
    "smp Unet, pvt_v2_b2": smp("Unet", "tu-pvt_v2_b2"),
    "smp UnetPlusPlus, pvt_v2_b2": smp("UnetPlusPlus", "tu-pvt_v2_b2"),
    "smp FPN, pvt_v2_b2": smp("FPN", "tu-pvt_v2_b2"),
    "smp Segformer, mit_b2": smp("Segformer", "mit_b2"),
    "MONAI FlexibleUNet, efficientnet-b4": {"_target_": "FlexibleUNet", **MONAI, "backbone": "efficientnet-b4"},
    "MONAI SegResNet, 16": {"_target_": "SegResNet", **MONAI, "spatial_dims": 2, "init_filters": 16},
    "MONAI SwinUNETR, 24": {"_target_": "SwinUNETR", **MONAI, "spatial_dims": 2, "feature_size": 24},
    "MONAI AttentionUnet, 64 to 1024": {
        **{"_target_": "AttentionUnet", **MONAI, "spatial_dims": 2},
        **{"channels": [64, 128, 256, 512, 1024], "strides": [2, 2, 2, 2]},
    },
}
OF_OURS: dict[str, Row] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b2": {},
    "b2 without SDI": {"sdi": False},
    "b2, interpolation": {"upsample": "interp"},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}


def trained(checkpoint: Path) -> torch.nn.Module:
    """Load weights into the default network."""
    network: torch.nn.Module = inference_config({}).get_parsed_content("network_def").eval()
    load_weights(network, checkpoint)
    return network


def export_all(network: torch.nn.Module, backbone: str, folder: Path, calibration: Sequence[torch.Tensor] = ()) -> None:
    """Export a network to all formats that can be made here, to int8 only if there are calibration images."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, one in FORMATS.items():
        if not CUDA and (calibration or not one.calibrated) and not one.missing_packages():
            export(name, network, {"backbone": backbone}, folder, NOISE, calibration=calibration)


def paths(folder: Path, **options: Any) -> dict[str, Variant]:
    """Return the ways to compute masks on this machine, one of them for each exported file in ``folder``."""
    found = {"default": Variant(options=options)}
    for one in FORMATS.values():
        if (folder / one.file).is_file():
            overlays = (f"options/inference_{one.overlay}.yaml",)
            found[one.runtime] = Variant(overlays=overlays, options={**options, "checkpoint": str(folder / one.file)})
    if BFLOAT16 and not CUDA:
        found["bfloat16"] = Variant(overlays=("options/inference_bf16.yaml",), options=options)
        if openvino := found.get("OpenVINO"):
            found["OpenVINO, bfloat16"] = replace(openvino, options={**openvino.options, "precision": "bf16"})
    return found


def inference(full: bool, folder: Path) -> Iterator[Table]:
    """Time a forward pass of inference.json and of its overlays."""
    shapes = [(1, 256), (1, 352), (8, 352), (1, 1024)] if full else [(1, 352), (8, 352)]
    for backbone in BACKBONES:
        files = folder / "exports" / backbone if full else Path("none")
        if full:
            export_all(UNetV2(backbone=backbone).eval(), backbone, files)
        found = list(paths(files, backbone=backbone).items())
        for some in (found[:4], found[4:]) if found[4:] else (found,):  # there is no room for all at once
            variants = {"released": Variant(options={"backbone": backbone}, released=True), **dict(some)}
            yield f"Inference, {backbone}", timed(variants, shapes, 15, network=backbone)


def training(full: bool, folder: Path) -> Iterator[Table]:
    """Time a step of train.json: forward, loss, backward, optimiser."""
    shapes = [(16, 352)] if CUDA else [(16, 256)] if full else [(4, 256)]
    for backbone in BACKBONES if full else (DEFAULT,):
        default = Variant("training", options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        if BFLOAT16:
            variants[FAST] = replace(default, overlays=(FAST,))
        if full:
            again = {**default.options, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = replace(default, options=again)
        yield f"A training step, {backbone}", timed(variants, shapes, 20, network=backbone)


def steps(full: bool, folder: Path) -> Iterator[Table]:
    """Time a step of the recommended recipe, computed in several ways."""
    recipe = Variant("training", RECIPE)
    ways = {"float32": recipe, "one thread": replace(recipe, threads=1)}
    ways["--compile true"] = replace(recipe, options={"compile": True})
    if BFLOAT16:
        ways["options/bf16_cpu.yaml"] = replace(recipe, overlays=(*RECIPE, "options/bf16_cpu.yaml"))
    else:
        ways["Muon in bfloat16"] = replace(recipe, options={"fast_muon#_disabled_": True})
    yield "A training step of the recommended recipe", timed(ways, [(16, 256)], 60)


def peers(full: bool, folder: Path) -> Iterator[Table]:
    """Time other networks with PyTorch's defaults, with our settings, and in a training step with our settings."""
    size = 352 if full else 256
    cases = {"unprepared": (Variant(released=True), (1, size)), "prepared": (Variant(), (1, size))}
    if full:
        cases["training step"] = Variant("training"), (4, 256)
    first, *others = NETWORKS
    for begin in range(0, len(others), 5):  # a handful of processes at a time, ours among them
        table: dict[str, Row] = {}
        for name in (first, *others[begin : begin + 5]):
            parameters, macs = count(NETWORKS[name], size)
            table[name] = {"network": name, "M parameters": parameters / 1e6, "GMACs": macs / 1e9}
        for title, (case, shape) in cases.items():
            variants = {}
            for name in table:  # ours has all its heads in training, as in train.json
                heads = {"deep_supervision": True} if case.work == "training" and "U-Net v2" in name else {}
                variants[name] = replace(case, options={"network_def": {**NETWORKS[name], **heads}})
            for row in timed(variants, [shape], 20):
                found = {"ms an image": row["ms an image"], "to ours": 1 / row["speed-up"], "peak MB": row["peak MB"]}
                table[row["path"]] |= {f"{title}, {key}": value for key, value in found.items()}
        if begin:
            del table[first]
        yield f"Other networks: one image of {size} x {size}; a step of 4 images of 256 x 256", list(table.values())


def sizes(full: bool, folder: Path) -> Iterator[Table]:
    """Time one image, from small to large sizes."""
    shapes = [(1, size) for size in ((256, 512, 1024, 2048) if full else (256, 512))]
    for backbone in BACKBONES if full else (DEFAULT,):
        default = {"default": Variant(options={"backbone": backbone})}
        yield f"Size of the image, {backbone}", timed(default, shapes, 15, network=backbone)


def counts(full: bool, folder: Path) -> Iterator[Table]:
    """Count parameters and multiply-accumulates of our variants; nothing is timed."""
    rows = []
    for name, arguments in OF_OURS.items():
        parameters, macs = count({**OURS, **arguments}, 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    yield "Variants at 256 x 256", rows


def run_command(variant: Variant, folder: Path, options: Row, processes: int = 0) -> float:
    """Run ``monai.bundle run`` and return its seconds from start to end; its log goes to ``folder``."""
    environment = {"OMP_NUM_THREADS": "1"} if processes else {}
    given = {**variant.options, **options}
    return run_bundle(variant.work, variant.files, given, environment, processes, folder / "command.log").wall


def medians(rounds: int, measured: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Call each function once per round, in turn, and return the median of its results."""
    found = [{name: function() for name, function in measured.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in measured}


def seconds(*command: object) -> float:
    """Run a script in a process of its own and return its seconds from start to end."""
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{Path(str(command[1])).name} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def demo_images(folder: Path, train: int = 72, test: int = 33, frames: int = 0) -> Path:
    """Draw images with masks, and a video of ``frames`` frames, unless they exist already."""
    data = folder / f"images_{train}_{test}_{frames}"
    if not data.is_dir():
        size = ["--train", train, "--test", test, *(["--video", frames] if frames else [])]
        seconds(sys.executable, SCRIPTS / "make_demo_data.py", data, *size)
    return data


def first_image(images: Path, folder: Path) -> Path:
    """Empty ``folder``, copy the first image of ``images`` into it, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(min(images.iterdir()), folder)
    return folder


def commands(full: bool, folder: Path) -> Iterator[Table]:
    """Time inference from the start of the process to its end."""
    images = demo_images(folder) / "test" / "images"
    own = {"output_dir": folder / "masks", "check_data": False}
    inputs = {"one": first_image(images, folder / "one"), "all": images}
    found = medians(
        3 if full else 1,
        {name: partial(run_command, Variant(), folder, {**own, "dataset_dir": data}) for name, data in inputs.items()},
    )
    further = 1000 * (found["all"] - found["one"]) / (len(list(images.iterdir())) - 1)
    row = {"s to one mask": found["one"], "ms each further image": further}
    yield f"run inference, {DEFAULT} at 256 x 256", [row]


def processes(full: bool, folder: Path) -> Iterator[Table]:
    """Train with torchrun in one and in two processes of one thread (or GPU) each; the fastest epoch counts."""
    out, batch_size = folder / "run", 8
    own = {"dataset_dir": demo_images(folder) / "train", "output_dir": out, "max_epochs": 4, "val_interval": 1000}
    own |= {"val_fraction": 0.11, "check_data": False, "image_size": [256, 256], "batch_size": batch_size}

    def rate(number: int) -> float:
        shutil.rmtree(out, ignore_errors=True)
        run_command(Variant("training", ("multi_gpu_train.json",)), folder, own, number)
        rows = read_csv(out / "metrics.csv")
        return int(rows[0]["iteration"]) * batch_size * number / min(float(row["seconds"]) for row in rows[1:])

    rates = medians(3 if full else 1, {str(number): partial(rate, number) for number in (1, 2)})
    rows = [
        {"processes": int(number), "images a second": one, "efficiency": one / int(number) / rates["1"]}
        for number, one in rates.items()
    ]
    yield f"torchrun, {DEFAULT}, 8 images of 256 x 256 in each process", rows


def data(full: bool, folder: Path) -> Iterator[Table]:
    """Time train.json's loader in one process, without a network. The same files are loaded repeatedly."""
    rows: list[Row] = []
    for cache in (1.0, 0.0):
        with new_process() as process:
            rows.append(process.submit(load, str(demo_images(folder)), 10_000 if full else 300, cache).result())
    yield "Loading of training images, 256 x 256, one process", rows


def load(dataset_dir: str, number: int, cache_rate: float) -> Row:
    """Measure a row of :py:func:`data`: fill the cache, then load one epoch."""
    own = {"dataset_dir": dataset_dir, "check_data": False, "num_workers": 0, "cache_rate": cache_rate}
    parser = read_config(["train.json"], {**own, "train#dataset#progress": False})
    items = parser.get_parsed_content("datalist")["training"]
    parser["train#dataset#data"] = [items[index % len(items)] for index in range(number)]
    parser.parse(reset=True)
    before, begun = peak(), time.perf_counter()
    loader = parser.get_parsed_content("train#dataloader")
    filled = time.perf_counter()
    images = sum(len(batch["image"]) for batch in loader)
    ended = time.perf_counter()
    return {
        "images": number, "cache": cache_rate, "ms an image to fill it": 1000 * (filled - begun) / number,
        "ms an image of an epoch": 1000 * (ended - filled) / images, "MB an image": (peak() - before) / number,
    }  # fmt: skip


def segmenting(full: bool, folder: Path) -> Iterator[Table]:
    """Time segment.py from start to end on one image, a video and a folder, and ``run inference`` to compare."""
    images, frames, rounds = (1000, 500, 3) if full else (300, 250, 1)
    drawn, out, model = demo_images(folder, 0, images, frames), folder / "segmented", folder / FORMATS["openvino"].file
    many, one = drawn / "test" / "images", first_image(drawn / "test" / "images", folder / "one")
    export("openvino", trained(BUNDLE / "models" / "model.pt"), {}, folder, NOISE)
    openvino = Variant(overlays=("options/inference_openvino.yaml",), options={"checkpoint": str(model)})
    python = RUNTIME_PYTHON if RUNTIME_PYTHON.is_file() else sys.executable

    def segment(what: Path) -> float:
        shutil.rmtree(out, ignore_errors=True)
        return seconds(python, SCRIPTS / "segment.py", model, what, "--output_dir", out)

    def infer() -> float:
        shutil.rmtree(out, ignore_errors=True)
        return run_command(openvino, folder, {"dataset_dir": many, "output_dir": out})

    segment(one)  # a first run, which reads the environment's files from disk
    found = medians(10 if full else 3, {"one image": partial(segment, one)})
    measured = {"video": partial(segment, drawn / "video.mp4"), "folder, with overlays": partial(segment, many)}
    found |= medians(rounds, {**measured, "folder, run inference": infer})
    numbers = {"one image": 1, "video": frames}
    rows: list[Row] = []
    for name, middle in found.items():
        number = numbers.get(name, images)
        rows.append({"input": name, "images": number, "s": middle, "images a second": number / middle})
    yield "segment.py with OpenVINO in float32, the shipped weights; video of 1280 x 720", rows
