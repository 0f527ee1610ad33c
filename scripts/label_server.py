#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Start a MONAI Label server for a folder of images: segment, correct, train on the corrections, segment better.

    make label-env                                  # once: an environment for MONAI Label
    python scripts/label_server.py --images DIR
    python scripts/label_server.py --images DIR_OF_NIFTI --recipe volumes   # for 3D Slicer

It prints one address: open it in a browser, or give it to a client. Whoever has the address can use the server.

Labels, weights and logs go to --work_dir; DIR is not changed. A work folder belongs to one DIR. Started again with
the same --work_dir, the server continues with the labels and weights that are there.

Otherwise it starts from the weights in --checkpoint. Without --checkpoint it starts from the weights for polyps that
come with the bundle. These fit only the default network: with any --set or --recipe, even one that leaves the network
as it is, and no --checkpoint, it starts as training does, with an encoder from ImageNet where the bundle has one. Its
predictions mean nothing until some images are labelled and trained on.
"""

from __future__ import annotations

import argparse
import errno
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.command import new_parser, run
from common.locks import locked
from common.options import add_set, values_of

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "scripts" / "label_app"
LABEL_PYTHON = ROOT / ".venv-label" / "bin" / "python"
SHOWN_LINES = 15  # of the log, when the server ends by itself
FINE_TUNING_RATE = 0.0003  # learning rate from trained weights, which 0.001 makes worse on few labels


@dataclass(frozen=True)
class Prepared:
    """
    What the server is started with.

    Args:
        app: folder of the app with the bundle and its weights.
        studies: the folder that MONAI Label reads images from and writes labels into.
        start: a sentence about the weights.
        volumes: whether the images are volumes.
    """

    app: Path
    studies: Path
    start: str
    volumes: bool


def use_label_environment() -> None:
    """Start this script again where MONAI Label is installed."""
    if importlib.util.find_spec("monailabel") is None:
        if not LABEL_PYTHON.exists():
            sys.exit("error: MONAI Label is not installed. Run: make label-env")
        if Path(sys.prefix).resolve() == LABEL_PYTHON.parents[1].resolve():  # it would start itself for ever
            sys.exit("error: MONAI Label is missing from .venv-label, whose set-up was cut off. Run: make label-env")
        os.execv(LABEL_PYTHON, [str(LABEL_PYTHON), *sys.argv])


def problems_at_sight(arguments: argparse.Namespace) -> list[str]:
    """All that can be seen to be wrong without the packages, whose import takes seconds."""
    problems = []
    if not 0 <= arguments.port <= 65535:
        problems.append(f"--port {arguments.port}: must be from 0 to 65535; 0 takes a free one.")
    elif reason := port_in_use(arguments):
        problems.append(f"port {arguments.port} of {arguments.host}: {reason}")
    if arguments.max_upload < 1:
        problems.append(f"--max_upload {arguments.max_upload}: must be at least 1 MiB.")
    started = [*arguments.work_dir.glob("app/model/*/models/model.pt")]
    if started and (arguments.checkpoint or arguments.set or arguments.recipe):
        problems.append(
            f"{arguments.work_dir} has weights already. Leave out --checkpoint, --set and --recipe to go on with "
            "them, or name another --work_dir."
        )
    elif arguments.checkpoint and not arguments.checkpoint.is_file():
        problems.append(
            f"--checkpoint {arguments.checkpoint}: there is no such file. Name your weights, or leave it out to start "
            "from those for polyps."
        )
    if not arguments.images.is_dir():
        return [*problems, f"--images {arguments.images} is not a folder."]
    record = images_record(arguments.work_dir)
    before = record.read_text().strip() if record.is_file() else ""
    if before and before != str(arguments.images.resolve()):
        problems.append(
            f"{arguments.work_dir} holds the labels of {before}. For {arguments.images.resolve()} name another "
            f"--work_dir. If you have moved the images, write their new folder into {record}."
        )
    return problems + no_images(arguments.images)


def port_in_use(arguments: argparse.Namespace) -> str:
    """Why the port cannot be had, and what to do; empty where it can. Port 0 is replaced by a free one."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((arguments.host, arguments.port))
        except OSError as error:
            of_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            return f"{error.strerror}. Name another {'--host' if of_host else '--port'}."
        arguments.port = tried.getsockname()[1]
    return ""


def images_record(work_dir: Path) -> Path:
    """The file that names the folder of images to which a work folder belongs."""
    return work_dir / "images.txt"


def no_images(folder: Path) -> list[str]:
    """
    A sentence for each file that does not begin as an image does, or has a name that no answer of the server can hold.
    What breaks later is found by decoding it.
    """
    from PIL import Image

    from unetv2_monai.core.listing import IMAGE_ENDINGS

    found = []
    for path in sorted([*folder.iterdir(), *folder.glob("images/*")]):
        if path.name.startswith(".") or not path.name.lower().endswith((*IMAGE_ENDINGS, ".nii", ".nii.gz")):
            continue
        if str(path).encode(errors="ignore") != os.fsencode(path):
            found.append(f"{str(path)!r} is not UTF-8, as the page needs it. Rename it.")
        elif path.suffix.lower() in IMAGE_ENDINGS:
            with suppress(Image.DecompressionBombError):
                try:
                    Image.open(path).close()
                except (OSError, SyntaxError, ValueError):
                    found.append(f"{path} cannot be opened as an image. Remove it from the folder, or restore it.")
    return found


@contextmanager
def own_work_folder(arguments: argparse.Namespace) -> Iterator[int]:
    """The work folder, for this server alone. Yields the lock's file, which keeps the lock as long as it is open."""
    from unetv2_monai import InputError

    arguments.work_dir.parent.mkdir(parents=True, exist_ok=True)
    arguments.work_dir.mkdir(mode=0o700, exist_ok=True)
    with locked(arguments.work_dir) as lock:
        if lock is None:
            raise InputError(
                f"Another labelling server uses {arguments.work_dir}. Stop it, or name another --work_dir."
            )
        yield lock.fileno()


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Check everything, then write. A work folder that nothing was written into is removed."""
    from common.studies import is_volume, link_images, prepare_images, refuse_changed, studies_of

    try:
        images = prepare_images(arguments)
        studies = studies_of(arguments, images)
        refuse_changed(studies, images)
        start = prepare_bundle(arguments, images)
    except Exception:
        if {path.name for path in arguments.work_dir.iterdir()} == {"lock"}:
            shutil.rmtree(arguments.work_dir)
        raise
    if not arguments.in_place:
        link_images(studies, images)
    images_record(arguments.work_dir).write_text(f"{arguments.images.resolve()}\n")
    return Prepared(renew_app(arguments.work_dir / "app"), studies, start, is_volume(images[0]))


def renew_app(app: Path) -> Path:
    """Copy the app's code anew; the bundle, its weights and the logs stay."""
    for path in app.iterdir():
        if path.is_dir() and path.name not in ("model", "logs"):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return app


def prepare_bundle(arguments: argparse.Namespace, images: Sequence[Path]) -> str:
    """Put the bundle and its weights into the app's folder, unless they are there. Returns a sentence about them."""
    from common.packing import NAME
    from common.studies import refuse_other_kind

    app = arguments.work_dir / "app"
    weights = app / "model" / NAME / "models" / "model.pt"
    if weights.is_file():
        refuse_other_kind(images, app / "model" / NAME)
        return f"Going on with the weights in {weights}"
    unfinished = arguments.work_dir / "app.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        start = write_bundle(arguments, unfinished / "model" / NAME, images)
        shutil.rmtree(app, ignore_errors=True)
        unfinished.rename(app)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return start


def write_bundle(arguments: argparse.Namespace, bundle: Path, images: Sequence[Path]) -> str:
    """The bundle with its weights in a new folder. Returns a sentence about the weights."""
    import torch
    from common.packing import SHIPPED, copy_bundle, copy_encoder, new_network, save_weights
    from common.studies import refuse_other_kind

    bundle.parent.mkdir(parents=True)
    own = arguments.checkpoint or arguments.set or arguments.recipe
    trained = arguments.checkpoint or (SHIPPED.is_file() and not own)
    rate = {"learning_rate": FINE_TUNING_RATE} if trained else {}
    copy_bundle(bundle, {**rate, **values_of(arguments.set)}, arguments.recipe)
    refuse_other_kind(images, bundle)
    from_imagenet = bool(copy_encoder(bundle))
    weights = bundle / "models" / "model.pt"
    if arguments.checkpoint:
        save_weights(arguments.checkpoint, bundle / "configs", weights)
        return f"Starting from the weights in {arguments.checkpoint}"
    if trained:
        save_weights(SHIPPED, bundle / "configs", weights)
        return "No --checkpoint: starting from the weights for polyps that ship with the bundle."
    torch.manual_seed(0)
    torch.save(new_network(bundle / "configs", "train.json").state_dict(), weights)
    start = "an encoder from ImageNet, all else random" if from_imagenet else "random weights"
    return f"No --checkpoint: starting from {start}. Label some images and train before you trust anything."


def prepare_environment(arguments: argparse.Namespace, app: Path, token: str) -> dict[str, str]:
    """Environment variables of the server. The token is one of them, since others can read command lines."""
    from unetv2_monai.core.listing import IMAGE_ENDINGS, VOLUME_ENDINGS

    endings = IMAGE_ENDINGS + VOLUME_ENDINGS
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
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in endings]),
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


def serve(arguments: argparse.Namespace, prepared: Prepared, lock: int) -> int:
    """Start the server, say where it is, and wait for its end. Returns its exit status."""
    token = "" if arguments.no_token else secrets.token_urlsafe(24)
    anywhere = arguments.host in ("0.0.0.0", "::")
    shown = "127.0.0.1" if anywhere else arguments.host
    log = arguments.work_dir / "server.log"
    print(f"Page: http://{shown}:{arguments.port}/{token}{'/' * bool(token)}")
    if prepared.volumes:
        print("Give it to 3D Slicer's MONAILabel as server once 'Ready.' is printed: the page shows no volumes.")
    else:
        print("Open it in a browser once 'Ready.' is printed. Other clients take it too: docs/how-to/label.md")
    if anywhere:
        print("From other machines: the same address with the name or the IP address of this one.")
    if arguments.no_token:
        print(
            "Warning: --no_token: every user of this machine, and everybody who reaches the port, can read the images, "
            "change labels and train."
        )
    print(prepared.start)
    print(f"Images: {arguments.images}\nLabels: {prepared.studies / 'labels' / 'final'}\nLog: {log}")
    print(f"Stop with Ctrl-C, or: kill {os.getpid()}", flush=True)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(prepared.app)]
    command += ["--studies", str(prepared.studies), "--host", arguments.host, "--port", str(arguments.port)]
    command += ["--uvicorn_app", "server:app"]
    command += ["--log_level", "warning"]  # of uvicorn, which would print an address without the token
    environment = prepare_environment(arguments, prepared.app, token)
    stopped = threading.Event()
    with log.open("w") as opened:  # what libraries print would bury the address
        server = subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            stdout=opened,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],  # should this process be killed, the server still has the folder to itself
        )

    def stop(*_: object) -> None:  # with whatever the server started: training, scoring
        stopped.set()
        os.killpg(server.pid, signal.SIGTERM)

    hang_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []  # nohup ignores it
    for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
        signal.signal(number, stop)
    threading.Thread(target=say_when_ready, args=(server, shown, arguments.port), daemon=True).start()
    status = server.wait()
    if not stopped.is_set():
        lines = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
        print(f"error: the server has ended by itself. The last lines of {log}:\n{lines}", file=sys.stderr)
        return status or 1
    return status


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, or NIfTI with --recipe volumes")
    parser.add_argument("--checkpoint", type=Path, help="weights to start from; default: see above")
    add_set(parser, "options that the weights need")
    parser.add_argument("--recipe", help="what the weights were trained with, such as volumes")
    parser.add_argument(
        "--work_dir", type=Path, default=Path("output/label"), help="of these images alone (default: output/label)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--no_token", action="store_true", help="an address without a token: everybody may use it")
    parser.add_argument("--max_upload", type=int, default=256, help="MiB of a file that is sent (default: 256)")
    parser.add_argument("--in_place", action="store_true", help="keep labels in the images' own folder")
    arguments = parser.parse_args(argv)
    use_label_environment()
    arguments.work_dir = arguments.work_dir.resolve()
    if problems := problems_at_sight(arguments):
        sys.exit("error: " + "\n  ".join(problems))
    with own_work_folder(arguments) as lock:
        sys.exit(serve(arguments, prepare(arguments), lock))


if __name__ == "__main__":
    run(main)
