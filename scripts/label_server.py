#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Start a MONAI Label server for a folder of images: segment, correct, train on the corrections, segment better.

    make label-env                                                    # once: an environment for MONAI Label
    python scripts/label_server.py --images DIR --checkpoint output/models/model.pt

It prints one address: open it in a browser, or give it to a client. Whoever has the address can use the server.

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
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from common.command import new_parser, run
from common.options import add_set, values_of

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "scripts" / "label_app"
LABEL_PYTHON = ROOT / ".venv-label" / "bin" / "python"


def use_label_environment() -> None:
    """Start this script again where MONAI Label is installed."""
    if importlib.util.find_spec("monailabel") is None:
        if not LABEL_PYTHON.exists():
            sys.exit("error: MONAI Label is not installed. Run: make label-env")
        os.execv(LABEL_PYTHON, [str(LABEL_PYTHON), *sys.argv])


def prepare_app(arguments: argparse.Namespace) -> Path:
    """The app in the work folder: its code is renewed, the bundle and its weights stay if they are there already."""
    app = prepare_bundle(arguments)
    for path in app.iterdir():
        if path.is_dir() and path.name not in ("model", "logs"):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return app


def prepare_bundle(arguments: argparse.Namespace) -> Path:
    """The folder of the app with the bundle and its weights; what is there already stays."""
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
    bundle = unfinished / "model" / NAME
    bundle.parent.mkdir(parents=True)
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


def prepare_environment(arguments: argparse.Namespace, app: Path, token: str) -> dict[str, str]:
    """Environment variables of the server. The token is one of them, since others can read command lines."""
    from unetv2_monai.data import IMAGE_ENDINGS, VOLUME_ENDINGS

    endings = IMAGE_ENDINGS + VOLUME_ENDINGS
    patterns = [f"*{ending}" for ending in (*endings, *(ending.upper() for ending in endings))]
    temporary = arguments.work_dir / "tmp"  # for files that are sent: other users cannot read it
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(app), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "TMPDIR": str(temporary),
        "UNETV2_LABEL_TOKEN": token,
        "UNETV2_LABEL_HOST": arguments.host,
        "UNETV2_LABEL_MAX_UPLOAD": str(arguments.max_upload * 2**20),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(patterns),
        "MONAI_LABEL_SESSIONS": "false",
        # two OpenMP runtimes meet in the server and would wait for each other
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONWARNINGS": "ignore",
    }


def say_when_ready(server: subprocess.Popen, host: str, port: int) -> None:
    while server.poll() is None:
        time.sleep(0.5)
        with socket.socket() as tried:
            if tried.connect_ex((host, port)) == 0:
                print("Ready.", flush=True)
                return


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, or NIfTI with --recipe volumes")
    parser.add_argument("--checkpoint", type=Path, help="weights to start from; default: see above")
    add_set(parser, "options that the weights need")
    parser.add_argument("--recipe", help="what the weights were trained with, such as volumes")
    parser.add_argument("--work_dir", type=Path, default=Path("output/label"), help="default: output/label")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--no_token", action="store_true", help="an address without a token: everybody may use it")
    parser.add_argument("--max_upload", type=int, default=256, help="MiB of a file that is sent (default: 256)")
    parser.add_argument("--in_place", action="store_true", help="keep labels in the images' own folder")
    arguments = parser.parse_args(argv)
    use_label_environment()

    from unetv2_monai import InputError

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
    if arguments.max_upload < 1:
        raise InputError(f"--max_upload {arguments.max_upload}: must be at least 1 MiB.")
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.parent.mkdir(parents=True, exist_ok=True)
    arguments.work_dir.mkdir(mode=0o700, exist_ok=True)
    studies, app = prepare_images(arguments), prepare_app(arguments)

    token = "" if arguments.no_token else secrets.token_urlsafe(24)
    anywhere = arguments.host in ("0.0.0.0", "::")
    shown = "127.0.0.1" if anywhere else arguments.host
    address = f"http://{shown}:{arguments.port}/{token}{'/' * bool(token)}"
    print(f"MONAI Label at {address} for {arguments.images}; labels in {studies / 'labels'}")
    if anywhere:
        print("From other machines: the same address with the name or the IP address of this one.")
    if arguments.no_token:
        print(
            "Warning: --no_token: every user of this machine, and everybody who reaches the port, can read the images, "
            "change labels and train."
        )
    print("Clients: CVAT for images, 3D Slicer for volumes, or MONAILabelClient in Python: docs/how-to/label.md")
    print(f"Stop with Ctrl-C, or: kill {os.getpid()}", flush=True)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", arguments.host, "--port", str(arguments.port), "--uvicorn_app", "server:app"]
    command += ["--log_level", "warning"]  # of uvicorn, which would print an address without the token
    environment = prepare_environment(arguments, app, token)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # with whatever the server started: training, scoring
        signal.signal(number, lambda *_: os.killpg(server.pid, signal.SIGTERM))
    threading.Thread(target=say_when_ready, args=(server, shown, arguments.port), daemon=True).start()
    sys.exit(server.wait())


if __name__ == "__main__":
    run(main)
