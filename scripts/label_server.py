#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Start a MONAI Label server for a folder of images: segment, correct, train on the corrections, segment better.

    make label-env                                  # once: an environment for MONAI Label
    python scripts/label_server.py --images DIR
    python scripts/label_server.py --images DIR_OF_NIFTI --recipe volumes   # for 3D Slicer
    python scripts/label_server.py --images VIDEO --rate 2                  # two frames a second; also DICOM

It prints one address: open it in a browser, or give it to a client. Whoever has the address can use the server.

Labels, weights and logs go to --work_dir; DIR is not changed. A work folder belongs to one DIR. Started again with
the same --work_dir, the server continues with the labels and weights that are there.

A new server starts from --checkpoint, or from the polyp weights that come with the bundle. These fit only the default
network: with --set or --recipe but no --checkpoint, the server starts as training does, with an ImageNet encoder if the
bundle has one. Its predictions then mean nothing until it has trained on some labels.
"""

import argparse
import errno
import fcntl
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

from common.command import new_parser, run
from common.options import add_set

LABEL_PYTHON = Path(__file__).resolve().parents[1] / ".venv-label" / "bin" / "python"
REQUIREMENTS = Path(__file__).resolve().parent / "label_start" / "requirements.txt"
FROM_WHEEL = f"pip install unetv2_monai-*.whl -c {REQUIREMENTS} && pip install --no-deps -r {REQUIREMENTS}"
SHOWN_LINES = 15  # last lines of the log to print when the server ends by itself
RECORD = "images.txt"  # names the folder of images to which a work folder belongs
MOST_RATE = 1000  # frames a second
FRAMES = "frames"  # folder in the work folder, of what was made of a video or of DICOM


def label_python() -> Path | None:
    """Return the Python of MONAI Label's environment; None if this is the one."""
    if importlib.util.find_spec("monailabel") is not None:
        return None
    if not LABEL_PYTHON.exists():
        in_repository = (LABEL_PYTHON.parents[2] / "Makefile").is_file()
        advice = "Run: make label-env" if in_repository else f"In a new environment, run: {FROM_WHEEL}"
        sys.exit(f"error: MONAI Label is not installed. {advice}")
    if Path(sys.prefix).resolve() == LABEL_PYTHON.parents[1].resolve():  # it would restart forever
        sys.exit("error: MONAI Label is missing from .venv-label, whose set-up was cut off. Run: make label-env")
    return LABEL_PYTHON


def has_frames(images: Path) -> bool:
    """Tell whether the images are the frames of a video, or DICOM, which are written as image files first."""
    from unetv2_monai.core.dicom import OTHER_ENDINGS, list_dicom
    from unetv2_monai.core.errors import InputError

    with suppress(InputError):  # of a folder that cannot be used: told later
        return bool(list_dicom(images)) or (images.is_file() and not images.name.lower().endswith(OTHER_ENDINGS))
    return False


def problems_at_sight(arguments: argparse.Namespace) -> list[str]:
    """Return the problems that can be found without importing the packages, which takes seconds."""
    problems = []
    if not 0 <= arguments.port <= 65535:
        problems.append(f"--port {arguments.port}: must be from 0 to 65535; 0 takes a free one.")
    elif reason := port_in_use(arguments):
        problems.append(f"port {arguments.port} of {arguments.host}: {reason}")
    if not 0 < arguments.rate <= MOST_RATE:
        problems.append(f"--rate {arguments.rate}: must be above 0, and at most {MOST_RATE}, which takes all frames.")
    if arguments.max_upload < 1:
        problems.append(f"--max_upload {arguments.max_upload}: must be at least 1 MiB.")
    started = [*arguments.work_dir.glob("app/model/*/models/model.pt")]
    if started and (arguments.checkpoint or arguments.set or arguments.recipe):
        advice = "Leave out --checkpoint, --set and --recipe to go on with them, or name another --work_dir."
        problems.append(f"{arguments.work_dir} has weights already. {advice}")
    elif arguments.checkpoint and not arguments.checkpoint.is_file():
        problems.append(
            f"--checkpoint {arguments.checkpoint}: there is no such file. Name your weights, or leave it out."
        )
    frames = has_frames(arguments.images)
    if not frames and arguments.rate != 1:
        problems.append(f"--rate {arguments.rate:g}: is for a video or DICOM, not for images. Leave it out.")
    if frames and arguments.in_place:
        problems.append(f"--in_place: the frames of {arguments.images} are written to the work folder. Leave it out.")
    if not frames and not arguments.images.is_dir():
        return [*problems, f"--images {arguments.images} is neither a folder nor a video or DICOM file."]
    record = arguments.work_dir / RECORD
    before = record.read_text().strip() if record.is_file() else ""
    if before and before != str(arguments.images.resolve()):
        moved = f"If you have moved the images, write their new folder into {record}."
        problems.append(f"{arguments.work_dir} holds the labels of {before}. Name another --work_dir. {moved}")
    return problems


def port_in_use(arguments: argparse.Namespace) -> str:
    """Return why the port cannot be used, and what to do; empty if it can. Port 0 is replaced by a free port."""
    with socket.socket(socket.AF_INET6 if ":" in arguments.host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((arguments.host, arguments.port))
        except OSError as error:
            of_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            return f"{error.strerror}. Name another {'--host' if of_host else '--port'}."
        arguments.port = tried.getsockname()[1]
    return ""


@contextmanager
def own_work_folder(work_dir: Path) -> Iterator[int]:
    """Make a work folder that only its owner can read, and lock it. The lock is shared with the server and with what it
    starts, such as trainings, and lasts until the last of them ends. Yields the descriptor of the locked file. After an
    error, a folder that holds nothing else is removed.
    """
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    work_dir.mkdir(mode=0o700, exist_ok=True)
    if work_dir.stat().st_mode & 0o077:
        if {path.name for path in work_dir.iterdir()} - {"lock"} and not (work_dir / RECORD).is_file():
            advice = f"Name another --work_dir, or run: chmod go= {shlex.quote(str(work_dir))}"
            sys.exit(f"error: Others can read {work_dir}, which holds files but is no work folder yet. {advice}")
        work_dir.chmod(0o700)
    with (work_dir / "lock").open("a") as lock:
        for _ in range(15):  # trainings of a server that was killed end within a second or two
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # neither a server nor a training holds it
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.2)
        else:
            sys.exit(f"error: Another labelling server uses {work_dir}. Stop it, or name another --work_dir.")
        try:
            yield lock.fileno()
        except Exception:
            if {path.name for path in work_dir.iterdir()} <= {"lock", FRAMES}:
                shutil.rmtree(work_dir)
            raise


def prepare(arguments: argparse.Namespace) -> tuple[Path, str, bool]:
    """Check everything, then write.

    Returns:
        The folder that MONAI Label reads images from and writes labels into, a sentence about the weights, and whether
        the images are volumes.
    """
    from label_start import link_images, prepare_app, prepare_images, refuse_changed, studies_of

    from unetv2_monai.core.listing import is_volume

    images = prepare_images(arguments)
    studies = studies_of(arguments, images)
    refuse_changed(studies, images)
    start = prepare_app(arguments, images)
    if not arguments.in_place:
        link_images(studies, images)
    (arguments.work_dir / RECORD).write_text(f"{arguments.images.resolve()}\n")
    return studies, start, is_volume(images[0])


def prepare_environment(arguments: argparse.Namespace, token: str) -> dict[str, str]:
    """Return the server's environment variables. One of them is the token, since other users can read command lines."""
    from unetv2_monai.core.listing import PICTURE_ENDINGS, VOLUME_ENDINGS

    temporary = arguments.work_dir / "tmp"  # for uploaded files; other users cannot read it
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(arguments.work_dir / "app"), os.environ.get("PYTHONPATH")])),
        "TMPDIR": str(temporary),
        "UNETV2_LABEL_TOKEN": token,
        "UNETV2_LABEL_HOST": arguments.host,
        "UNETV2_LABEL_MAX_UPLOAD": str(arguments.max_upload * 2**20),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in PICTURE_ENDINGS + VOLUME_ENDINGS]),
        "MONAI_LABEL_SESSIONS": "false",
        # the server loads two OpenMP runtimes, which would wait for each other
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONWARNINGS": "ignore",
    }


def answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port)):
        return True
    return False


def serve(arguments: argparse.Namespace, studies: Path, start: str, volumes: bool, lock: int) -> int:
    """Start the server, print its address, and wait until it ends. Returns its exit status."""
    token = "" if arguments.no_token else secrets.token_urlsafe(24)
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(arguments.host, arguments.host)
    in_url = f"[{shown}]" if ":" in shown else shown
    log = arguments.work_dir / "server.log"
    print(f"Page: http://{in_url}:{arguments.port}/{token}{'/' * bool(token)}")
    if volumes:
        print("Give it to 3D Slicer's MONAILabel as server once 'Ready.' is printed: the page shows no volumes.")
    else:
        print("Open it in a browser once 'Ready.' is printed. Other clients take it too: docs/how-to/label.md")
    if shown != arguments.host:
        print("From other machines: the same address with the name or the IP address of this one.")
    if arguments.no_token:
        print("Warning: --no_token: everybody who reaches the port can read the images, change labels and train.")
    print(f"{start}\nImages: {arguments.images}\nLabels: {studies / 'labels' / 'final'}\nLog: {log}")
    print(f"Stop with Ctrl-C, or: kill {os.getpid()}", flush=True)
    app = arguments.work_dir / "app"
    command = [sys.executable, str(app / "serve.py"), "start_server", "--app", str(app)]
    command += ["--studies", str(studies), "--host", arguments.host, "--port", str(arguments.port)]
    command += ["--uvicorn_app", "server:app"]
    command += ["--log_level", "warning"]  # of uvicorn, which would print an address without the token
    env = prepare_environment(arguments, token)
    with log.open("w") as opened:  # what libraries print would bury the address
        # the server holds the folder's lock too, in case this process is killed
        server = subprocess.Popen(
            command, stdout=opened, stderr=subprocess.STDOUT, env=env, start_new_session=True, pass_fds=[lock]
        )
    stopped = []

    def stop(*_: object) -> None:  # also what the server started: training, scoring
        stopped.append(True)
        os.killpg(server.pid, signal.SIGTERM)

    hang_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []  # nohup ignores it
    for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
        signal.signal(number, stop)
    while server.poll() is None and not answers(shown, arguments.port):
        time.sleep(0.5)
    if server.poll() is None:
        print("Ready.", flush=True)
    status = server.wait()
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)  # a training must not outlive a server that was killed
    if not stopped:
        lines = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
        print(f"error: the server has ended by itself. The last lines of {log}:\n{lines}", file=sys.stderr)
        return status or 1
    return status


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, a video, or DICOM")
    parser.add_argument("--rate", type=float, default=1, help="frames a second of a video (default: 1)")
    parser.add_argument("--checkpoint", type=Path, help="weights to start from; default: see above")
    add_set(parser, "options that the weights need")
    parser.add_argument("--recipe", help="recipe that the weights were trained with, such as volumes")
    work_dir = Path("output/label")
    parser.add_argument("--work_dir", type=Path, default=work_dir, help=f"work folder of one DIR (default: {work_dir})")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--no_token", action="store_true", help="an address without a token: everybody may use it")
    parser.add_argument("--max_upload", type=int, default=256, help="largest upload in MiB (default: 256)")
    parser.add_argument("--in_place", action="store_true", help="keep labels in the images' own folder")
    arguments = parser.parse_args(argv)
    python, arguments.work_dir = label_python(), arguments.work_dir.resolve()
    frames = arguments.work_dir / FRAMES if has_frames(arguments.images) else None
    if python and not frames:
        os.execv(python, [str(python), *sys.argv])
    if problems := problems_at_sight(arguments):
        sys.exit("error: " + "\n  ".join(problems))
    if frames and not python and not frames.is_dir():
        advice = "Start from the environment of unetv2-monai[dicom], which has their decoders."
        sys.exit(f"error: DICOM and videos are not read in this environment. {advice}")
    with own_work_folder(arguments.work_dir) as lock:
        if python and frames:
            from label_start.frames import write_frames

            write_frames(arguments.images, frames, Fraction(arguments.rate), arguments.recipe == "volumes")
            os.execv(python, [str(python), *sys.argv])
        sys.exit(serve(arguments, *prepare(arguments), lock))


if __name__ == "__main__":
    run(main)
