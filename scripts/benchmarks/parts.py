# SPDX-License-Identifier: Apache-2.0
"""The tables of ``benchmark.py``: passes and steps of networks, and whole commands as their users wait for them."""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common.bundle import BUNDLE, ROOT, read_config, run_bundle
from common.command import RUNTIME_PYTHON
from common.exports import FORMATS, export, inference_config
from torch.profiler import ProfilerActivity, profile

from unetv2_monai import InputError, UNetV2, load_weights

from .timing import BFLOAT16, CUDA, RELEASED_ENVIRONMENT, Row, Variant, count, floor, new_process, peak, prepare, timed

DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
RECIPE = ("recipes/recommended.yaml",)
FAST = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
CONVOLUTIONS = {"aten::mkldnn_convolution": 1, "aten::convolution_backward": 2}  # which input is the weight
NOISE = [torch.randn(2, 3, 97, 75)]  # that an exported file is compared on
SCRIPTS = ROOT / "scripts"
Table = tuple[str, list[Row]]  # its title and rows


def ours(**arguments: Any) -> Row:
    return {"_target_": "unetv2_monai.UNetV2", **arguments}


def smp(name: str, encoder: str) -> Row:
    own = {"encoder_name": encoder, "encoder_weights": None, "in_channels": 3, "classes": 1}
    return {"_target_": f"segmentation_models_pytorch.{name}", **own}


def of_monai(name: str, **arguments: Any) -> Row:
    return {"_target_": name, "in_channels": 3, "out_channels": 1, **arguments}


NETWORKS: dict[str, Row] = {
    "U-Net v2, pvt_v2_b2": ours(backbone="pvt_v2_b2"),
    f"U-Net v2, {DEFAULT}": ours(backbone=DEFAULT),
    "smp Unet, pvt_v2_b2": smp("Unet", "tu-pvt_v2_b2"),
    f"smp Unet, {DEFAULT}": smp("Unet", f"tu-{DEFAULT}"),
    "smp UnetPlusPlus, pvt_v2_b2": smp("UnetPlusPlus", "tu-pvt_v2_b2"),
    "smp FPN, pvt_v2_b2": smp("FPN", "tu-pvt_v2_b2"),
    "smp Segformer, mit_b2": smp("Segformer", "mit_b2"),
    "MONAI FlexibleUNet, efficientnet-b4": of_monai("FlexibleUNet", backbone="efficientnet-b4"),
    "MONAI SegResNet, 16": of_monai("SegResNet", spatial_dims=2, init_filters=16),
    "MONAI SwinUNETR, 24": of_monai("SwinUNETR", spatial_dims=2, feature_size=24),
    "MONAI AttentionUnet, 64 to 1024": of_monai(
        "AttentionUnet", spatial_dims=2, channels=[64, 128, 256, 512, 1024], strides=[2, 2, 2, 2]
    ),
}
OF_OURS: dict[str, Row] = {
    **{
        f"U-Net v2, {backbone}": {"backbone": backbone}
        for backbone in (DEFAULT, "pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b4", "convnextv2_tiny", "resnet34")
    },
    "b2 without SDI": {"sdi": False},
    "b2 without attention": {"attention": "none"},
    "b2, fusion cat": {"fusion": "cat"},
    "b2, interpolation": {"upsample": "interp"},
    "b2, 16 channels": {"channels": 16},
    "b2, 64 channels": {"channels": 64},
    "b2, 128 channels": {"channels": 128},
}


def trained(checkpoint: Path) -> torch.nn.Module:
    """Load weights into the default network."""
    network: torch.nn.Module = inference_config({}).get_parsed_content("network_def").eval()
    load_weights(network, checkpoint)
    return network


def export_all(network: torch.nn.Module, backbone: str, folder: Path, calibration: Sequence[torch.Tensor] = ()) -> None:
    """Write a network in all formats that can be made here, in int8 if there are images to calibrate on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, one in FORMATS.items():
        if not CUDA and (calibration or not one.calibrated) and not one.missing_packages():
            export(name, network, {"backbone": backbone}, folder, NOISE, calibration=calibration)


def paths(folder: Path, **options: Any) -> dict[str, Variant]:
    """List the ways to compute masks on this machine, with the exported files that are in ``folder``."""
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


def inference(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time a forward pass of inference.json and of its overlays."""
    for backbone in BACKBONES:
        files = folder / "exports" / backbone
        if full:
            export_all(UNetV2(backbone=backbone).eval(), backbone, files)
        found = paths(files if full else Path("none"), backbone=backbone)
        groups = [(list(found), [(1, 352), (8, 352)])]
        if full:  # the larger the case, the fewer processes have room beside each other
            groups = [(list(found), [(1, 256), (1, 352), (1, 512), (8, 256), (8, 352)])]
            groups += [(half, [(1, 1024), (8, 512)]) for half in (list(found)[:4], list(found)[4:]) if half]
            groups += [(sorted({"default", "bfloat16"} & found.keys()), [(8, 1024)])]
        for some, shapes in groups:
            variants = {"released": Variant(options={"backbone": backbone}, released=True)}
            rows = timed({**variants, **{name: found[name] for name in some}}, shapes, 15, network=backbone)
            for row in rows:
                kind = "bfloat16" if "bfloat16" in row["path"] else "float32"
                row["x floor"] = row["ms an image"] / 1000 / floor(ours(backbone=backbone), row["size"], machine, kind)
            yield f"Inference, {backbone}", rows


def training(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time a step of train.json: forward, loss, backward, optimiser."""
    shapes = [(16, 352)] if CUDA else [(4, 256), (4, 352), (16, 256)] if full else [(4, 256)]
    for backbone in BACKBONES if full else BACKBONES[1:]:
        default = Variant("training", options={"backbone": backbone})
        variants = {"released": replace(default, released=True), "default": default}
        if BFLOAT16:
            variants[FAST] = replace(default, overlays=(FAST,))
        if full:
            again = {**default.options, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = replace(default, options=again)
        yield f"A training step, {backbone}", timed(variants, shapes, 20, network=backbone)


def steps(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time a step of the recommended recipe, computed in several ways."""
    recipe = Variant("training", RECIPE)
    ways = {"float32": recipe, "one thread": replace(recipe, threads=1)}
    ways["--compile true"] = replace(recipe, options={"compile": True})
    if BFLOAT16:
        ways["options/bf16_cpu.yaml"] = replace(recipe, overlays=(*RECIPE, "options/bf16_cpu.yaml"))
    else:
        ways["Muon in bfloat16"] = replace(recipe, options={"fast_muon#_disabled_": True})
    shapes = [(batch, 256) for batch in ((8, 16, 32) if full else (16,))]
    yield "A training step of the recommended recipe", timed(ways, shapes, 60)


def shares(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Measure the time of a step by operation with PyTorch's profiler, in one thread."""
    threads, batch, rounds = torch.get_num_threads(), 16, 3
    try:
        step, images = prepare(Variant("training", RECIPE, threads=1)), torch.rand(batch, 3, 256, 256)
        for _ in range(rounds):
            step(images)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            for _ in range(rounds):
                step(images)
    finally:
        torch.set_num_threads(threads)
    spent: Counter[str] = Counter()
    for event in found.key_averages(group_by_input_shape=True):
        spent[operation_of(event.key, event.input_shapes)] += event.self_cpu_time_total / 1000 / rounds / batch
    total = spent.total()
    rows = [{"operation": name, "ms an image": own, "share": own / total} for name, own in spent.most_common(15)]
    yield f"Where a step of {batch} images of 256 x 256 spends its time, {total:.0f} ms an image", rows


def operation_of(name: str, shapes: list[Any]) -> str:
    """
    Tell the kinds of convolutions apart.

    Args:
        name: of an operation in PyTorch's profiler.
        shapes: of its inputs; empty for those that are no tensors.

    Returns:
        The name; for a convolution with its kind: depthwise, 1x1 or other.
    """
    if name not in CONVOLUTIONS:
        return name
    weight = [shape for shape in shapes if shape][CONVOLUTIONS[name]]
    depthwise = weight[1] == 1 and weight[0] > 1
    return f"{name}, {'depthwise' if depthwise else '1x1' if weight[2:] == [1, 1] else 'other'}"


def peers(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time other networks with PyTorch's defaults, with our settings, and in a training step with our settings."""
    size = 352 if full else 256
    cases = {"unprepared": (Variant(released=True), (1, size)), "prepared": (Variant(), (1, size))}
    if full:
        cases["training step"] = Variant("training"), (4, 256)
    first, *others = NETWORKS
    for begin in range(0, len(others), 5):  # a handful of processes at a time, ours in each
        table: dict[str, Row] = {}
        for name in (first, *others[begin : begin + 5]):
            parameters, macs, _ = count(NETWORKS[name], size)
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


def sizes(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time one image, from small to large."""
    shapes = [(1, size) for size in ((256, 512, 1024, 2048) if full else (256, 512))]
    for backbone in BACKBONES if full else BACKBONES[1:]:
        rows = timed({"default": Variant(options={"backbone": backbone})}, shapes, 15, network=backbone)
        for row in rows:
            row["ms a megapixel"] = row["ms an image"] / row["size"] ** 2 * 2**20
        yield f"Size of the image, {backbone}", rows


def counts(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Count parameters and multiply-accumulates of our variants; nothing is timed."""
    rows = []
    for name, arguments in OF_OURS.items():
        parameters, macs, _ = count(ours(**arguments), 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    yield "Variants at 256 x 256", rows


def run_command(variant: Variant, folder: Path, options: Row, processes: int = 0) -> float:
    """Run ``monai.bundle run`` and return its seconds from start to end; its log goes to ``folder``."""
    environment = RELEASED_ENVIRONMENT if variant.released else {"OMP_NUM_THREADS": "1"} if processes else {}
    given = {**variant.all_options, **options}
    if variant.released:
        given["initialize#0#_disabled_"] = True  # it keeps memory
    return run_bundle(variant.work, variant.files, given, environment, processes, folder / "command.log").wall


def medians(rounds: int, measured: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Call each function once a round, in turns; returns the median of what each returned."""
    found = [{name: function() for name, function in measured.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in measured}


def demo_images(folder: Path) -> Path:
    """Draw 72 images with masks, of which 64 are trained on, and 33 images to segment."""
    data = folder / "images"
    if not data.is_dir():
        seconds(sys.executable, SCRIPTS / "make_demo_data.py", data, "--train", 72, "--test", 33)
    return data


def training_rate(folder: Path, variant: Variant, batch_size: int, processes: int = 0) -> float:
    """Run the training command; returns the images a second of its fastest epoch after the first."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    own = {"dataset_dir": demo_images(folder) / "train", "output_dir": out, "max_epochs": 4, "val_interval": 1000}
    own |= {"val_fraction": 0.11, "check_data": False, "image_size": [256, 256], "batch_size": batch_size}
    run_command(variant, folder, own, processes)
    with (out / "metrics.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    images = int(rows[0]["iteration"]) * batch_size * max(processes, 1)
    return images / min(float(row["seconds"]) for row in rows[1:])


def commands(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time inference from the start of the process to its end, and measure the rate of training."""
    test, one = demo_images(folder) / "test" / "images", folder / "one"
    one.mkdir(exist_ok=True)
    shutil.copy(min(test.iterdir()), one)
    further = len(list(test.iterdir())) - 1
    released = Variant(options={"inferer": "$monai.inferers.SimpleInferer()"}, released=True)
    ways = {"released": released, **paths(Path("none"))}
    own = {"output_dir": folder / "masks", "check_data": False}
    found = []
    for images in (one, test):
        given = {**own, "dataset_dir": images}
        measured = {name: partial(run_command, way, folder, given) for name, way in ways.items()}
        found.append(medians(3 if full else 1, measured))
    rows: list[Row] = []
    for name in ways:
        first, whole = (seconds_of[name] for seconds_of in found)
        rows.append({"path": name, "s to one mask": first, "ms each further image": 1000 * (whole - first) / further})
    yield f"run inference, {DEFAULT} at 256 x 256, {further + 1} images", rows

    default = Variant("training")
    ways = {"released": replace(default, released=True), "default": default}
    if BFLOAT16:
        ways[FAST] = replace(default, overlays=(FAST,))
    rates = medians(2 if full else 1, {name: partial(training_rate, folder, way, 16) for name, way in ways.items()})
    rows = [{"path": name, "images a second": one, "speed-up": one / rates["released"]} for name, one in rates.items()]
    yield f"run training, {DEFAULT}, batches of 16 at 256 x 256", rows


def processes(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Train with torchrun in one and in two processes of one thread (or GPU) each."""
    variant = Variant("training", ("multi_gpu_train.json",))
    measured = {str(number): partial(training_rate, folder, variant, 8, number) for number in (1, 2)}
    rates = medians(3 if full else 1, measured)
    rows = [
        {"processes": int(number), "images a second": rate, "efficiency": rate / int(number) / rates["1"]}
        for number, rate in rates.items()
    ]
    yield f"torchrun, {DEFAULT}, 8 images of 256 x 256 in each process", rows


def data(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time train.json's loader in one process, without a network; the files repeat."""
    rows: list[Row] = []
    for number in (100, 1000, 10_000) if full else (100, 300):
        for cache in (1.0, 0.0):
            with new_process() as process:
                rows.append(process.submit(load, str(demo_images(folder)), number, cache).result())
    yield "Loading of training images, 256 x 256, one process", rows


def load(dataset_dir: str, number: int, cache_rate: float) -> Row:
    """Make a row of :py:func:`data`: fill the cache, then load one epoch."""
    own = {"dataset_dir": dataset_dir, "check_data": False, "num_workers": 0, "cache_rate": cache_rate}
    parser = read_config(["train.json"], {**own, "train#dataset#progress": False})
    items = parser.get_parsed_content("datalist")["training"]
    parser["train#dataset#data"] = [items[index % len(items)] for index in range(number)]
    parser.parse(reset=True)
    before, times = peak(), [time.perf_counter()]
    loader = parser.get_parsed_content("train#dataloader")
    times.append(time.perf_counter())
    images = sum(len(batch["image"]) for batch in loader)
    times.append(time.perf_counter())
    return {
        "images": number, "cache": cache_rate, "ms an image to fill it": 1000 * (times[1] - times[0]) / number,
        "ms an image of an epoch": 1000 * (times[2] - times[1]) / images, "MB an image": (peak() - before) / number,
    }  # fmt: skip


def seconds(*command: object) -> float:
    """Run a command and return its seconds from start to end."""
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{Path(str(command[1])).name} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def draw_inputs(folder: Path, images: int, frames: int, drawn: int = 100) -> None:
    """Draw ``video.mp4``, ``one.png`` and the images in ``many/``, where a few images repeat."""
    shutil.rmtree(folder, ignore_errors=True)
    size = ["--train", 0, "--test", min(images, drawn), "--video", frames]
    seconds(sys.executable, SCRIPTS / "make_demo_data.py", folder, *size)
    (folder / "many").mkdir()
    found = sorted((folder / "test" / "images").iterdir())
    for index in range(images):
        path = found[index % len(found)]
        shutil.copy(path, folder / "many" / f"frame_{index:04d}{path.suffix}")
    shutil.copy(found[0], folder / "one.png")


def segmenting(full: bool, folder: Path, machine: Row) -> Iterator[Table]:
    """Time segment.py from start to end on one image, a video and a folder, beside ``run inference``."""
    images, frames, rounds = (1000, 500, 3) if full else (300, 250, 1)
    own, out = folder / "segmenting", folder / "segmented"
    draw_inputs(own, images, frames)
    export("openvino", trained(BUNDLE / "models" / "model.pt"), {}, own, NOISE)
    openvino = paths(own)["OpenVINO"]
    python = RUNTIME_PYTHON if RUNTIME_PYTHON.is_file() else sys.executable

    def segment(*arguments: object) -> float:
        shutil.rmtree(out, ignore_errors=True)
        return seconds(python, SCRIPTS / "segment.py", openvino.options["checkpoint"], *arguments, "--output_dir", out)

    def infer() -> float:
        shutil.rmtree(out, ignore_errors=True)
        return run_command(openvino, folder, {"dataset_dir": own / "many", "output_dir": out})

    segment(own / "one.png")  # reads the files of the environment
    found = medians(10 if full else 3, {"one image": partial(segment, own / "one.png")})
    found |= medians(rounds, {
        "video": partial(segment, own / "video.mp4"), "folder, with overlays": partial(segment, own / "many"),
        "folder": partial(segment, own / "many", "--no_overlays"), "folder, run inference": infer,
    })  # fmt: skip
    rows: list[Row] = []
    for name, middle in found.items():
        number = {"one image": 1, "video": frames}.get(name, images)
        row = {"input": name, "images": number, "s": middle, "images a second": number / middle}
        faster = {"to run inference": found["folder, run inference"] / middle} if name.startswith("folder") else {}
        rows.append(row | faster)
    yield "segment.py with OpenVINO in float32, the shipped weights; video of 1280 x 720", rows
