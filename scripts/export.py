#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Export weights for other runtimes, and check that each gives the same masks.

    python scripts/export.py --checkpoint output/models/model.pt --images IMAGES

writes model.ts (TorchScript), model.pt2 (torch.export), model.onnx and model.xml (OpenVINO) beside the checkpoint and
prints a table: file size, largest difference of the logits from PyTorch's, and Dice between the masks and PyTorch's.
--calibrate FOLDER, a folder of training images, also writes model_int8.xml: OpenVINO with most layers in int8.

For older weights that carry no options, set those that differ from the defaults: --set backbone=pvt_v2_b2.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from common.command import new_parser, run
from common.exports import FORMATS, Job, describe, export, images_of, inference_config
from common.options import add_set, read_set, with_carried
from common.quantisation import CALIBRATION_IMAGES, LEAST_IMAGES
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple_rep

from unetv2_monai import InputError, list_images, load_weights

# further input shapes (batch, height, width) that every exported file must accept
SHAPES = [(1, 288, 384), (2, 97, 75), (3, 64, 64)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights that training wrote")
    parser.add_argument("--output_dir", type=Path, help="default: the checkpoint's folder")
    parser.add_argument("--images", type=Path, help="images to compare masks of; default: --calibrate or noise")
    parser.add_argument("--calibrate", type=Path, help="training images, for int8")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, help="default: all; int8 only with --calibrate")
    add_set(parser, "options that the weights need")
    arguments = parser.parse_args(argv)

    formats = arguments.formats or [name for name, one in FORMATS.items() if arguments.calibrate or not one.calibrated]
    if arguments.calibrate is None and any(FORMATS[name].calibrated for name in formats):
        raise InputError("int8 takes training images: name their folder by --calibrate.")
    options = with_carried(read_set(arguments.set, "inference.json"), arguments.checkpoint)
    if options.get("spatial_dims") == 3:
        advice = "export takes networks for images only; monai.bundle ckpt_export writes TorchScript of volumes."
        raise InputError(f"the weights in {arguments.checkpoint} are for volumes, and {advice}")
    config = inference_config(options)
    network = config.get_parsed_content("network_def").eval()
    load_weights(network, arguments.checkpoint)
    calibration = _calibration(arguments.calibrate, config) if arguments.calibrate else []
    job = Job(network, options, describe(options, arguments.checkpoint), calibration)
    folder = arguments.output_dir or arguments.checkpoint.parent
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    height, width = ensure_tuple_rep(config["image_size"], 2)
    channels = next(network.parameters()).shape[1]
    noise = [torch.randn(n, channels, h, w) for n, h, w in [(1, height, width), *SHAPES]]
    images = images_of(list_images(str(arguments.images)), config) if arguments.images else calibration

    inputs = f"{len(images)} images" if images else "noise"
    print(f"| runtime | file | size (MB) | opset | max. difference | largest logit | Dice, {inputs} |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for one in map(FORMATS.__getitem__, formats):
        if missing := one.missing_packages():
            print(f"| {one.runtime} | not made: pip install {' '.join(missing)} | | | | | |")
            continue
        opset, found = export(one, job, folder, noise, images)
        weights = [folder / one.file.replace(".xml", ".bin")] if one.file.endswith(".xml") else []  # of OpenVINO
        size = sum(path.stat().st_size for path in [folder / one.file, *weights]) / 1e6
        agreement = f"{found.difference:.1e} | {found.largest:.1f} | {found.dice:.6f}"
        print(f"| {one.runtime} | `{one.file}` | {size:.1f} | {opset} | {agreement} |", flush=True)


def _calibration(folder: Path, config: ConfigParser) -> list[torch.Tensor]:
    if not folder.is_dir():
        raise InputError(f"--calibrate: there is no folder {folder}. Name one of training images.")
    try:
        images = images_of(list_images(str(folder)), config, CALIBRATION_IMAGES)
    except InputError as error:
        raise InputError(f"--calibrate: {str(error).removeprefix('dataset_dir ')}") from error
    if len(images) < LEAST_IMAGES:
        raise InputError(
            f"--calibrate: {folder} has {len(images)} images, int8 takes at least {LEAST_IMAGES}. Add training images."
        )
    return images


if __name__ == "__main__":
    run(main, quiet=True)
