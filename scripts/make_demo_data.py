#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Draw endoscopy-like images with masks, to try everything without a data set.

    python scripts/make_demo_data.py demo/data --train 240 --test 24

An image shows tissue with folds, vessels and highlights, lit from one side, and in most cases one or two dome-shaped
lesions that differ little from their surroundings. The images have several sizes, most of them not square, and are PNG
and JPEG; masks are 0/255. The same seed gives the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.command import new_parser, run
from common.demo_images import write_demo_data


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where to write train/ and test/, each with images/ and masks/")
    parser.add_argument("--train", type=int, default=240, help="images to train on (default: 240)")
    parser.add_argument("--test", type=int, default=24, help="images to test on (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)

    write_demo_data(arguments.folder, arguments.train, arguments.test, arguments.seed)
    print(f"{arguments.train} + {arguments.test} images with masks in {arguments.folder}")


if __name__ == "__main__":
    run(main)
