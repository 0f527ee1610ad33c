#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Export weights for other runtimes, and check that each gives the same masks.

    python scripts/export.py --checkpoint output/models/model.pt --images IMAGES

writes model.ts (TorchScript), model.pt2 (torch.export), model.onnx and model.xml (OpenVINO) beside the checkpoint and
prints a table: size of the file, largest difference of the logits from PyTorch's, and Dice of the masks with PyTorch's.
Every file is run as `monai.bundle run inference` would run it, with its overlay
bundle/configs/options/inference_*.yaml. The ONNX and OpenVINO files hold what scripts/segment.py needs to know (size,
normalisation, classes, threshold, SHA-256 of the weights).

For weights that were not trained with the default options, name those that differ:
--set backbone=pvt_v2_b2 image_size=352.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from common.command import new_parser, run
from common.exports import FORMATS, export, images_of, inference_config
from common.options import add_set, values_of
from monai.utils import ensure_tuple_rep

from unetv2_monai import load_weights

# batch, height, width besides the image size: the formats must be free in all of them
SHAPES = [(1, 288, 384), (2, 97, 75), (3, 64, 64)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights that training wrote")
    parser.add_argument("--output_dir", type=Path, help="default: the checkpoint's folder")
    parser.add_argument("--images", type=Path, help="images whose masks are compared (default: noise)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: all")
    add_set(parser, "options that the weights need")
    arguments = parser.parse_args(argv)

    options = values_of(arguments.set)
    config = inference_config(options)
    network = config.get_parsed_content("network_def").eval()
    load_weights(network, arguments.checkpoint)
    folder = arguments.output_dir or arguments.checkpoint.parent
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    height, width = ensure_tuple_rep(config["image_size"], 2)
    channels = next(network.parameters()).shape[1]
    noise = [torch.randn(n, channels, h, w) for n, h, w in [(1, height, width), *SHAPES]]
    images = images_of(arguments.images, config) if arguments.images else []

    inputs = f"{len(images)} images" if images else "noise"
    print(f"| runtime | file | size (MB) | opset | max. difference | Dice, {inputs} | dynamic axes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    largest = 0.0
    for name in arguments.formats:
        one = FORMATS[name]
        if missing := one.missing_packages():
            print(f"| {one.runtime} | not made: pip install {' '.join(missing)} | | | | | |")
            continue
        made = export(name, network, options, folder, noise, images, arguments.checkpoint)
        found, largest = made.agreement, made.agreement.largest
        print(
            f"| {one.runtime} | `{one.file}` | {made.size:.1f} | {made.opset} | {found.difference:.1e} | "
            f"{found.dice:.6f} | yes |",
            flush=True,
        )
    print(f"\nThe logits are as large as {largest:.1f}. Every file was run at {len(noise)} shapes.")


if __name__ == "__main__":
    run(main, quiet=True)
