# SPDX-License-Identifier: Apache-2.0
"""The start of scripts/label_server.py: what it refuses, before anything is written, and what it prints."""

import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from argparse import Namespace
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from unetv2_monai import InputError
from unetv2_monai.networks import read_weights, with_options

from ...conftest import ROOT, draw_pair
from ...data.folders import write_volume
from ...support.workflow import cases
from .attacks import listing
from .support import SMALL, bright, draw_cases, label_server, labelling, pixels, serving, wait_for

pytest.importorskip("monailabel")


@pytest.fixture
def command(monkeypatch):
    """The module scripts/label_server.py."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("label_server")


@pytest.fixture
def case(tmp_path) -> Path:
    """A folder of one image, and an empty work folder."""
    draw_pair(tmp_path, "case", 40, 30)
    (tmp_path / "work").mkdir()
    return tmp_path


def arguments(folder: Path, **changes: object) -> Namespace:
    given = {"images": folder / "images", "work_dir": folder / "work", "checkpoint": None, "set": {}, "recipe": None}
    given |= {"host": "127.0.0.1", "port": 0, "rate": 1, "max_upload": 1, "in_place": False}
    return Namespace(**{**given, **changes})


def refused(*command: object) -> str:
    done = subprocess.run(label_server(*command), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_all_that_is_wrong_is_one_error(tmp_path, command):
    """Options first, and then, once the packages are imported, the images."""
    draw_pair(tmp_path, "good", 40, 30)
    for name, content in (("broken.png", "no image"), ("empty.jpg", ""), ("notes.txt", "no image either")):
        (tmp_path / "images" / name).write_text(content)
    found = command.problems_at_sight(arguments(tmp_path, port=70000, max_upload=0, checkpoint=tmp_path / "absent.pt"))
    assert [line.partition(": ")[0] for line in found] == [
        "--port 70000", "--max_upload 0", f"--checkpoint {tmp_path / 'absent.pt'}",
    ]  # fmt: skip
    said = refused(tmp_path / "work", "--images", tmp_path / "images", "--port", 70000, "--checkpoint", "absent.pt")
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1
    assert said.count("\n") == 2
    said = refused(tmp_path / "work", "--images", tmp_path / "images", "--port", 0)
    assert [name for name in ("good.png", "broken.png", "empty.jpg") if f"{name}: cannot be read" in said] == [
        "broken.png", "empty.jpg",
    ]  # fmt: skip
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("name", "recipe", "said"), cases("label", "other_kind"))
def test_images_of_the_other_kind(name, recipe, said, case, command):
    """One of them is enough."""
    write_volume(case / "images" / "case.nii.gz", (4, 4, 4))
    for path in (case / "images").iterdir():
        path.rename(path.with_name(f"{'b' if path.name == name else 'a'}_{path.name}"))
    refused = pytest.raises(InputError, match=re.escape(f"b_{name} is {said}"))
    with refused, command.own_work_folder(case / "work"):
        command.prepare(arguments(case, recipe=recipe))
    assert not (case / "work").exists()


def test_volumes_of_other_channels(case, command):
    write_volume(case / "volumes" / "case.nii.gz", (4, 5, 6, 2))
    with pytest.raises(InputError, match=r"case.nii.gz: holds 2 channels, but the network takes 1. Name other"):
        command.prepare(arguments(case, images=case / "volumes", recipe="volumes"))


def test_a_start_that_fails_leaves_nothing(case):
    """Of an image that breaks off, and of weights that are none: found after the first look."""
    (case / "weights.pt").write_bytes(b"no weights")
    options = ("--images", case / "images", "--port", 0)
    assert "weights.pt" in refused(case / "new" / "work", *options, "--checkpoint", case / "weights.pt")
    assert not (case / "new" / "work").exists()
    (case / "work").chmod(0o700)
    (case / "work" / "notes.txt").write_text("mine")
    path = case / "images" / "case.png"
    path.write_bytes(path.read_bytes()[:200])
    assert "case.png" in refused(case / "work", *options)
    assert sorted(found.name for found in (case / "work").iterdir()) == ["lock", "notes.txt"]


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_port_0_takes_a_free_one(host, family, tmp_path, command):
    given = arguments(tmp_path, host=host)
    assert command.port_in_use(given) == ""
    assert 1024 <= given.port <= 65535
    with socket.create_server((host, 0), family=family) as used:
        port = used.getsockname()[1]
        said = command.port_in_use(arguments(tmp_path, host=host, port=port))
        assert command.answers(host, port)
    assert not command.answers(host, port)
    assert "in use" in said
    assert said.endswith("Name another --port.")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])  # of no machine
def test_another_host_is_named_where_the_port_is_not_at_fault(host, tmp_path, command):
    said = command.port_in_use(arguments(tmp_path, host=host, port=8000))
    assert said.endswith("Name another --host.")


def test_a_work_folder_belongs_to_its_images(tmp_path, random_weights):
    """One server at a time, one folder of images, and the images that were labelled."""
    first, second = (draw_cases(tmp_path / folder, 2, size, 0) for folder, size in (("a", (40, 30)), ("b", (30, 40))))
    work = tmp_path / "work"
    with labelling(work, first, "--checkpoint", random_weights, "--set", "image_size=64", scores=False) as server:
        printed = server.log.read_text().splitlines()
        assert printed[0] == f"Page: {server.address}"
        assert len(printed) < 12
        assert not [line for line in printed if "INFO" in line or "Allow Origins" in line]
        assert "INFO" in (work / "server.log").read_text()
        assert f"Another labelling server uses {work}" in refused(work, "--images", first, "--port", 0)
        server.put_label("case_0", np.ones((30, 40)))
        label = server.label("case_0")
    before = listing(work)
    assert f"holds the labels of {first}" in refused(work, "--images", second, "--port", 0)
    shutil.copy(second / "case_0.png", first / "case_0.png")
    assert f"case_0.png, labelled in {label}" in refused(work, "--images", first, "--port", 0)
    assert listing(work) == before


def test_names_that_are_not_utf_8(case, command):
    shutil.copy(case / "images" / "case.png", os.fsdecode(os.fsencode(case / "images") + b"/caf\xe9.png"))
    with pytest.raises(InputError, match=r"caf\\udce9.png.*rename it\.$"):
        command.prepare(arguments(case))


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_broken_list_says_what_to_do(content, case, command):
    listed = case / "work" / "images" / "datastore_v2.json"
    listed.parent.mkdir()
    listed.write_text(content)
    with pytest.raises(InputError, match=re.escape(f"{listed} is broken. Move it away and start again")):
        command.prepare(arguments(case))


def test_images_that_are_links_keep_their_names(case, command):
    """They are linked anew if their folder has moved."""
    start = importlib.import_module("label_start")
    (case / "images" / "case.png").rename(case / "no_ending")
    (case / "images" / "link.png").symlink_to("../no_ending")
    for folder in ("images", "moved"):
        (case / "images").rename(case / folder)
        start.link_images(case / "work", start.prepare_images(arguments(case, images=case / folder)))
        assert {path.name: path.readlink() for path in (case / "work").iterdir()} == {
            "link.png": case / folder / "link.png"
        }


def test_a_work_folder_is_its_owners_alone(case, command):
    """One that is there already too, unless it holds something else."""
    work = case / "work"
    for added in ("lock", command.RECORD):  # an empty one, one of an earlier start
        (work / added).touch()
        work.chmod(0o755)
        with command.own_work_folder(work):
            assert work.stat().st_mode & 0o777 == 0o700
    (case / "images").chmod(0o755)
    with pytest.raises(SystemExit, match=r"Others can read .*chmod go= "), command.own_work_folder(case / "images"):
        pass


def test_in_place_takes_the_folder_that_holds_the_images(case, command, random_weights):
    given = arguments(case, images=case, in_place=True, checkpoint=random_weights)
    assert command.prepare(given)[0] == case / "images"


def test_in_place_refuses_masks_beside_the_images(case, command):
    shutil.copy(case / "masks" / "case.png", case / "images" / "case_mask.png")
    with pytest.raises(InputError, match=re.escape("(case_mask.png)")):
        command.prepare(arguments(case, in_place=True))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_the_work_folder_is_locked_as_long_as_the_server_lives(number, case, random_weights):
    """A closed terminal ends the server; one that outlives its parent keeps the folder."""
    work, options = case / "work", ("--images", case / "images", "--port", 0)
    start = label_server(work, *options, "--checkpoint", random_weights, "--set", "image_size=64")
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    terminal = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # also where nohup runs the tests
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=terminal) as parent:
        try:
            assert "Ready.\n" in parent.stdout
            (child,) = psutil.Process(parent.pid).children()
            parent.send_signal(number)
            parent.wait(60)
            if number == signal.SIGKILL:
                assert f"Another labelling server uses {work}" in refused(work, *options)
                child.kill()
            else:
                assert not child.is_running()
        finally:
            parent.kill()
    wait_for(lambda: free(work / "lock"))


def test_a_training_ends_with_its_server_that_is_killed(case, random_weights):
    """Until then it holds the work folder, and no other server starts whose weights it would replace."""
    work, ended = case / "work", False
    with suppress(AssertionError), labelling(work, case / "images", "--checkpoint", random_weights, *SMALL) as server:
        server.put_label("case", bright(case / "images", "case"))
        assert server.post("/page/train", {"max_epochs": 1000})[0] == 202
        wait_for(lambda: server.get_json("/page/train")["epoch"], 120)
        processes = psutil.Process(server.pid).children(recursive=True)
        (training,) = (process for process in processes if "train" in process.cmdline())
        psutil.Process(server.pid).kill()
        processes[0].kill()
        wait_for(lambda: free(work / "lock"), 10)
        ended = not training.is_running() or training.status() == psutil.STATUS_ZOMBIE
    assert ended


def test_frames_of_dicom_are_labelled(tmp_path, random_weights):
    """Started in the environment of the package, which reads DICOM; the server runs in its own."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("no environment that reads DICOM: make setup")
    draw = "from pathlib import Path; from tests.support.dicom import draw_picture as d; d(Path('{}'), '{}', '{}')"
    wanted = tmp_path / "export", "endoscopic", "Quixote_4711.dcm"
    subprocess.run([python, "-c", draw.format(*wanted)], check=True, cwd=ROOT)
    options = ("--images", tmp_path / "export", "--checkpoint", random_weights, "--set", "image_size=64")
    work = tmp_path / "work"
    with serving([str(python), *label_server(work, *options)[1:]], work) as server:
        mask = np.zeros(pixels((work / "frames" / "dicom_0001.png").read_bytes()).shape[:2], np.uint8)
        mask[3:9, 4:20] = 1
        server.put_label("dicom_0001", mask)
        assert (server.saved("dicom_0001") == mask).all()
        assert server.prediction("dicom_0001").shape == mask.shape


def free(lock: Path) -> bool:
    with lock.open("a") as opened, suppress(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def written(case: Path, **changes: object) -> dict[str, Any]:
    """The config train.json of the bundle that a server starts with."""
    bundle = case / "model" / "bundle"
    write_bundle = importlib.import_module("label_start").write_bundle
    write_bundle(arguments(case, **changes), bundle, [case / "images" / "case.png"])
    return json.loads((bundle / "configs" / "train.json").read_text())


@pytest.mark.parametrize(("checkpoint", "changed", "rate"), cases("label", "rates"))
def test_trained_weights_go_on_slowly(case, command, checkpoint, changed, rate):
    weights = checkpoint and ROOT / "bundle" / "models" / checkpoint
    assert written(case, checkpoint=weights, set=changed)["learning_rate"] == rate


def test_options_that_weights_carry(case, command):
    """They are taken over; one that contradicts them is refused."""
    step = {"_target_": "unetv2_monai.CropLabeld", "keys": "label"}
    carried = {"image_size": [96, 96], "out_channels": 1, "transforms#view_label": step}
    weights = with_options(read_weights(str(ROOT / "bundle" / "models" / "model.pt")), carried)
    torch.save(weights, case / "weights.pt")
    config = written(case, checkpoint=case / "weights.pt")
    assert (config["image_size"], config["transforms"]["view_label"]) == ([96, 96], step)
    with pytest.raises(InputError, match="--set out_channels=3 contradicts the weights"):
        written(case / "other", checkpoint=case / "weights.pt", set={"out_channels": "3"})
    with pytest.raises(InputError, match="--set bakbone: not an option"):
        written(case / "other", checkpoint=case / "weights.pt", set={"bakbone": "pvt_v2_b2"})
