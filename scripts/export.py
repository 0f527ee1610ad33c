#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Export weights for other runtimes, and prove that each gives the same masks.

    python scripts/export.py --checkpoint output/models/model.pt --images IMAGES

writes model.ts (TorchScript), model.pt2 (torch.export), model.onnx and model.xml (OpenVINO) beside the checkpoint and
prints a table: size, largest difference of the logits and Dice of the masks against PyTorch. Every file is run as
`monai.bundle run inference` would run it, through its overlay bundle/configs/options/inference_*.yaml. For weights that
were not trained with the defaults, name what differs: --set backbone=pvt_v2_b2 image_size=352.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser, ckpt_export
from monai.metrics import DiceMetric
from monai.utils import ensure_tuple_rep

from unetv2_monai import InputError, StrictCheckpointLoader, list_images

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"
Shape = tuple[int, int, int]
# batch, height, width, beside that of training: none is the one that was exported with
SHAPES: list[Shape] = [(1, 288, 384), (2, 97, 75), (3, 64, 64)]


def export_torchscript(network: torch.nn.Module, options: dict[str, Any], target: Path) -> str:
    """By MONAI, which scripts it and packs the configs and the metadata into the file, for MONAI Deploy."""
    with tempfile.TemporaryDirectory() as folder:
        config, weights = Path(folder) / "inference.json", Path(folder) / "model.pt"
        config.write_text(json.dumps({**ConfigParser.load_config_file(str(CONFIGS / "inference.json")), **options}))
        torch.save(network.state_dict(), weights)
        ckpt_export(
            net_id="network_def", filepath=str(target), ckpt_file=str(weights), config_file=str(config),
            meta_file=str(CONFIGS / "metadata.json"),
        )  # fmt: skip
    return "-"


def export_program(network: torch.nn.Module, options: dict[str, Any], target: Path) -> str:
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(network, (example(network),), dynamic_shapes=({0: free, 2: free, 3: free},))
    torch.export.save(program, target)
    return "-"


def export_onnx(network: torch.nn.Module, options: dict[str, Any], target: Path) -> str:
    import onnx

    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        network, (example(network),), target, dynamo=True, external_data=False, verbose=False, input_names=["image"],
        output_names=["pred"], dynamic_shapes=({0: free, 2: free, 3: free},),
    )  # fmt: skip
    return str(onnx.load(target, load_external_data=False).opset_import[0].version)


def export_openvino(network: torch.nn.Module, options: dict[str, Any], target: Path) -> str:
    """From ONNX, whose shapes are free."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        opset = export_onnx(network, options, path)
        openvino.save_model(openvino.convert_model(path), target, compress_to_fp16=False)
    return opset


# name, as in options/inference_<name>.yaml -> runtime, file, packages, exporter
FORMATS: dict[str, tuple[str, str, list[str], Callable[[torch.nn.Module, dict[str, Any], Path], str]]] = {
    "torchscript": ("TorchScript", "model.ts", [], export_torchscript),
    "export": ("torch.export", "model.pt2", [], export_program),
    "onnx": ("ONNX Runtime", "model.onnx", ["onnx", "onnxscript", "onnxruntime"], export_onnx),
    "openvino": ("OpenVINO", "model.xml", ["onnx", "onnxscript", "openvino"], export_openvino),
}


def example(network: torch.nn.Module) -> torch.Tensor:
    """Of a shape that nothing can be specialised on: no size is 1, equal to another or divisible by 32."""
    return torch.rand(2, next(network.parameters()).shape[1], 97, 75)


def config(options: dict[str, Any], *overlays: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), *(str(CONFIGS / "options" / name) for name in overlays)])
    unknown = [key for key in options if key.split("#")[0] not in parser]
    if unknown:
        raise InputError(f"--set {unknown[0]}: not an option of inference.json, see docs/configuration.md.")
    parser.update({**options, "device": torch.device("cpu")})
    return parser


def images_of(folder: Path | None, parser: ConfigParser) -> list[torch.Tensor]:
    if folder is None:
        return []
    preprocessing = parser.get_parsed_content("preprocessing")
    return [preprocessing(item)["image"].as_tensor()[None] for item in list_images(str(folder))]


def to_mask(logits: torch.Tensor) -> torch.Tensor:
    """(batch, classes without background, height, width)"""
    if logits.shape[1] == 1:
        return (logits >= 0).float()
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1)[:, 1:].float()


@torch.no_grad()
def compare(
    run: Callable[[torch.Tensor], torch.Tensor], network: torch.nn.Module, noise: list[torch.Tensor],
    images: list[torch.Tensor],
) -> tuple[float, float, float]:  # fmt: skip
    """Over all inputs the largest absolute difference and size of the logits; the mean Dice of masks over images."""
    difference, largest, dice = 0.0, 0.0, DiceMetric(ignore_empty=False)
    for index, x in enumerate(noise + images):
        expected, found = network(x), torch.as_tensor(run(x))
        if found.shape != expected.shape:
            raise InputError(f"input {tuple(x.shape)} gave {tuple(found.shape)} instead of {tuple(expected.shape)}.")
        difference = max(difference, (found - expected).abs().max().item())
        largest = max(largest, expected.abs().max().item())
        if index >= len(noise) or not images:
            dice(to_mask(found), to_mask(expected))
    return difference, largest, dice.aggregate().item()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights that training wrote")
    parser.add_argument("--output_dir", type=Path, help="default: the checkpoint's folder")
    parser.add_argument("--images", type=Path, help="images to compare masks of; without, masks of noise are compared")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: all")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options that the weights need")
    arguments = parser.parse_args(argv)

    options = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    base = config(options)
    network = base.get_parsed_content("network_def").eval()
    StrictCheckpointLoader(str(arguments.checkpoint), {"model": network})
    content = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(content.get("model", content))
    folder = arguments.output_dir or arguments.checkpoint.parent
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    height, width = ensure_tuple_rep(base["image_size"], 2)
    channels = next(network.parameters()).shape[1]
    noise = [torch.randn(n, channels, h, w) for n, h, w in [(1, height, width), *SHAPES]]
    images = images_of(arguments.images, base)

    inputs = f"{len(images)} images" if images else "noise"
    print(f"| runtime | file | size (MB) | opset | max. difference | Dice, {inputs} | dynamic axes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    largest = 0.0
    for name in arguments.formats:
        runtime, file, packages, export = FORMATS[name]
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            print(f"| {runtime} | not made: pip install {' '.join(missing)} | | | | | |")
            continue
        target = folder / file
        opset = export(network, options, target)
        exported = config({**options, "checkpoint": str(target)}, f"inference_{name}.yaml")
        inferer, loaded = exported.get_parsed_content("inferer"), exported.get_parsed_content("network")
        difference, largest, dice = compare(lambda x, i=inferer, n=loaded: i(x, n), network, noise, images)
        parts = [target, target.with_suffix(".bin")] if target.suffix == ".xml" else [target]
        size = sum(path.stat().st_size for path in parts) / 1e6
        print(f"| {runtime} | `{file}` | {size:.1f} | {opset} | {difference:.1e} | {dice:.6f} | yes |", flush=True)
        if not difference < 1e-4 * max(1.0, largest):
            raise InputError(f"{target} differs from the network by {difference:.1e}: do not use it.")
    print(f"\nDifferences are of logits as large as {largest:.1f}. Every file was run at {len(noise)} shapes besides.")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
