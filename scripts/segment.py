#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Segment images, videos, DICOM or a camera with an exported network; write masks, overlays and tables.

    make runtime-env                                                  # once: a small environment without torch
    python scripts/export.py --checkpoint bundle/models/model.pt --formats openvino --output_dir output/export
    python scripts/segment.py output/export/model.xml INPUT... --output_dir OUT

INPUT is an image, a folder of images, a video, a DICOM file, a folder of DICOM files, or camera:0 (until Ctrl-C). MODEL
is an .xml or .onnx file that scripts/export.py wrote; the file says how images must be preprocessed. For images, OUT
gets a mask as `monai.bundle run inference` writes it, an overlay below overlays/, images.csv and lesions.csv. For a
video NAME.mp4, OUT gets NAME_overlay.mp4, NAME.csv and NAME_lesions.csv. A DICOM file of several frames, or a series,
is handled like a video, and a mask of each frame is written. Files that cannot be read are listed at the end, and the
exit status is then 1.
"""

import argparse
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.command import RUNTIME_PYTHON, new_parser, run


def use_runtime_environment() -> None:
    """Restart this script where OpenVINO is installed. If it already runs there, the set-up was interrupted: exit."""
    if importlib.util.find_spec("openvino") is None:
        if not RUNTIME_PYTHON.exists() or Path(sys.prefix).resolve() == RUNTIME_PYTHON.parents[1].resolve():
            sys.exit("error: OpenVINO is not installed. Run: make runtime-env")
        os.execv(RUNTIME_PYTHON, [str(RUNTIME_PYTHON), *sys.argv])


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help=".xml or .onnx by scripts/export.py")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders, videos or camera:0")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--opacity", type=share, default=0.3, help="opacity of the tint in overlays (default: 0.3)")
    parser.add_argument("--no_overlays", action="store_true", help="write only masks and tables")
    parser.add_argument("--video_masks", action="store_true", help="also write a mask of every frame of a video")
    parser.add_argument("--skip_finished", action="store_true", help="continue: skip what is complete in OUT")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of the network (default: f32)")
    parser.add_argument("--certainty", type=share, help="keep a region only if its probability reaches this somewhere")
    smoothing = "weight of the preceding frames in a video's probabilities (default: 0, none)"
    parser.add_argument("--smoothing", type=share, default=0.0, help=smoothing)
    presence = "in a video: a lesion is present from probability ON on, until it falls below OFF (default: not used)"
    parser.add_argument("--presence", type=share, nargs=2, metavar=("ON", "OFF"), help=presence)
    matrix = "of videos that state none (default: bt709 from a width of 1280 or a height of 577 on, else bt601)"
    parser.add_argument("--color_matrix", choices=("bt601", "bt709"), help=matrix)
    seg = "of DICOM: also write DICOM SEG, with these segments of bundle/configs/segments.yaml, one for each class"
    parser.add_argument("--seg", nargs="+", metavar="NAME", help=seg)
    parser.add_argument("--seg_codes", metavar="FILE", help="your own file of segments and their codes, in that form")
    parser.add_argument("--labelmap", action="store_true", help="write SEG as LABELMAP, which few programs read")
    arguments = parser.parse_args(argv)
    use_runtime_environment()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    from runtime.results import Settings
    from runtime.segmenting import segment

    from unetv2_monai.core.errors import InputError

    if arguments.smoothing == 1:
        raise InputError("--smoothing 1: no frame but the first would count. Set it below 1.")
    if arguments.presence and arguments.presence[0] < arguments.presence[1]:
        raise InputError("--presence: ON must not be below OFF.")
    try:
        segment(Settings(**vars(arguments)))
    except KeyboardInterrupt:
        sys.exit("stopped; go on with --skip_finished")


if __name__ == "__main__":
    run(main)
