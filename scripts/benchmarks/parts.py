# SPDX-License-Identifier: Apache-2.0
"""The tables of ``benchmark.py``: times of forward passes and of training steps, and counts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common.bundle import read_config
from common.exports import FORMATS, export, inference_config

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


PARTS = {"inference": inference, "training": training, "counts": counts}
