#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Draw endoscopy-like images with masks, to try everything without a data set.

    python scripts/make_demo_data.py demo/data --train 240 --test 24
    python scripts/make_demo_data.py demo/data --video                # video.mp4 as well: 1280 x 720, 10 s

An image shows tissue with folds, vessels and highlights, lit from one side, and in most cases one or two dome-shaped
lesions that differ little from their surroundings. The images have several sizes, most of them not square, and are PNG
and JPEG; masks are 0/255. In the video a camera moves over one such image. The same seed gives the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from common.command import new_parser, run
from common.demo_images import RATE, frames, write_demo_data


def write_video(path: Path, count: int, seed: int) -> None:
    """Frames as H.264; PyAV is not needed for images."""
    try:
        from runtime.video import VideoWriter
    except ModuleNotFoundError as error:
        from unetv2_monai import InputError  # not above: images are drawn where there is no torch, too

        raise InputError(
            "--video takes PyAV, which is not installed here: pip install av, or make runtime-env."
        ) from error
    writer = None
    for index, image in enumerate(frames(count, seed)):
        writer = writer or VideoWriter(path, image.shape[:2], Fraction(RATE), Fraction(1, RATE))
        writer.add(image, index)
    if writer:
        writer.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where to write train/ and test/, each with images/ and masks/")
    parser.add_argument("--train", type=int, default=240, help="images to train on (default: 240)")
    parser.add_argument("--test", type=int, default=24, help="images to test on (default: 24)")
    parser.add_argument(
        "--video", type=int, nargs="?", const=10 * RATE, default=0, metavar="FRAMES",
        help="also write video.mp4, of so many frames (default: no video; without a number 250)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)

    write_demo_data(arguments.folder, arguments.train, arguments.test, arguments.seed)
    print(f"{arguments.train} + {arguments.test} images with masks in {arguments.folder}")
    if arguments.video:
        write_video(arguments.folder / "video.mp4", arguments.video, arguments.seed)
        print(f"a video of {arguments.video} frames: {arguments.folder / 'video.mp4'}")


if __name__ == "__main__":
    run(main)
