#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Start a MONAI Label server for a folder of images: segment, correct, train on the corrections, segment better.

    make label-env                                                    # once: an environment for MONAI Label
    python scripts/label_server.py --images DIR --checkpoint output/models/model.pt

Labels, weights and logs go to --work_dir; DIR is not changed. Started again with the same --work_dir, the server
continues with the labels and weights that are there.

Otherwise it starts from the weights in --checkpoint. Without --checkpoint it starts from the weights for polyps that
come with the bundle. These fit only the default network: with any --set or --recipe, even one that leaves the network
as it is, and no --checkpoint, it starts as training does, with an encoder from ImageNet where the bundle has one. Its
predictions mean nothing until some images are labelled and trained on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.command import new_parser, run
from common.options import add_set, values_of

ROOT = Path(__file__).resolve().parents[1]
LABEL_PYTHON = ROOT / ".venv-label" / "bin" / "python"


def use_label_environment() -> None:
    """Start this script again where MONAI Label is installed."""
    if importlib.util.find_spec("monailabel") is None:
        if not LABEL_PYTHON.exists():
            sys.exit("error: MONAI Label is not installed. Run: make label-env")
        os.execv(LABEL_PYTHON, [str(LABEL_PYTHON), *sys.argv])


def prepare_app(arguments: argparse.Namespace) -> Path:
    """The app with the bundle and its weights in the work folder; what is there already stays."""
    import torch
    from common.packing import NAME, SHIPPED, copy_bundle, copy_encoder, new_network, save_weights

    from unetv2_monai import InputError

    app = arguments.work_dir / "app"
    weights = app / "model" / NAME / "models" / "model.pt"
    if weights.is_file():
        if arguments.checkpoint or arguments.set or arguments.recipe:
            raise InputError(
                f"{arguments.work_dir} has weights already. Leave out --checkpoint, --set and --recipe to go on with "
                "them, or name another --work_dir."
            )
        print(f"Going on with the weights in {weights}")
        return app
    options = values_of(arguments.set)
    unfinished = arguments.work_dir / "app.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(ROOT / "scripts" / "label_app", unfinished, ignore=shutil.ignore_patterns("__pycache__"))
    bundle = unfinished / "model" / NAME
    copy_bundle(bundle, options, arguments.recipe)
    from_imagenet = bool(copy_encoder(bundle))
    checkpoint = arguments.checkpoint
    if checkpoint is None and SHIPPED.is_file() and not (arguments.set or arguments.recipe):
        print("No --checkpoint: starting from the weights for polyps that ship with the bundle.")
        checkpoint = SHIPPED
    if checkpoint:
        save_weights(checkpoint, bundle / "configs", bundle / "models" / "model.pt")
    else:
        start = "an encoder from ImageNet, all else random" if from_imagenet else "random weights"
        print(f"No --checkpoint: starting from {start}. Label some images and train before you trust anything.")
        torch.manual_seed(0)
        torch.save(new_network(bundle / "configs", "train.json").state_dict(), bundle / "models" / "model.pt")
    shutil.rmtree(app, ignore_errors=True)
    unfinished.rename(app)
    return app


def prepare_images(arguments: argparse.Namespace) -> Path:
    """The folder that MONAI Label reads and writes its labels into: links to the images, unless asked otherwise."""
    from unetv2_monai import list_images

    if arguments.in_place:
        return arguments.images.resolve()
    studies = arguments.work_dir / "images"
    studies.mkdir(exist_ok=True)
    for item in list_images(str(arguments.images)):
        path = Path(item["image"]).resolve()
        link = studies / path.name
        if link.is_symlink() and link.resolve() != path:  # of an earlier --images
            link.unlink()
        if not link.exists():
            link.symlink_to(path)
    return studies


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, or NIfTI with --recipe volumes")
    parser.add_argument("--checkpoint", type=Path, help="weights to start from; default: see above")
    add_set(parser, "options that the weights need")
    parser.add_argument("--recipe", help="what the weights were trained with, such as volumes")
    parser.add_argument("--work_dir", type=Path, default=Path("output/label"), help="default: output/label")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--in_place", action="store_true", help="keep labels in the images' own folder")
    arguments = parser.parse_args(argv)
    use_label_environment()

    from unetv2_monai import InputError
    from unetv2_monai.data import IMAGE_ENDINGS, VOLUME_ENDINGS

    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((arguments.host, arguments.port))
        except OSError as error:
            raise InputError(
                f"port {arguments.port} of {arguments.host}: {error.strerror}. Name another --port."
            ) from None
    if not arguments.images.is_dir():
        raise InputError(f"--images {arguments.images} is not a folder.")
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    studies, app = prepare_images(arguments), prepare_app(arguments)

    endings = IMAGE_ENDINGS + VOLUME_ENDINGS
    patterns = [f"*{ending}" for ending in (*endings, *(ending.upper() for ending in endings))]
    environment = {
        **os.environ,
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(patterns),
        # two OpenMP runtimes meet in the server and would wait for each other
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONWARNINGS": "ignore",
    }
    address = f"http://{arguments.host}:{arguments.port}"
    print(f"MONAI Label at {address} for {arguments.images}; labels in {studies / 'labels'}")
    print("Clients: CVAT for images, 3D Slicer for volumes, or MONAILabelClient in Python: docs/how-to/label.md")
    print(f"Stop with Ctrl-C, or: kill {os.getpid()}", flush=True)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # with whatever the server started: training, scoring
        signal.signal(number, lambda *_: os.killpg(server.pid, signal.SIGTERM))
    sys.exit(server.wait())


if __name__ == "__main__":
    run(main)
