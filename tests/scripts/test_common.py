# SPDX-License-Identifier: Apache-2.0
"""What the commands share: --help, how they end, options, commands of the bundle, tables, figures and pictures."""

import argparse
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import nibabel
import numpy as np
import pytest
from common import pages
from common.bundle import run_bundle
from common.command import run
from common.options import add_set, read_set
from common.pages import markdown
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from unetv2_monai import InputError
from unetv2_monai.data.pictures import fullest_slices, picture

from ..conftest import ROOT, script

COMMANDS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
SIZE = (4, 3, 2)  # left to right, back to front, below to above
RAS = np.diag([1.0, 1.0, 2.0, 1.0])  # mm
# the longest side, of 4 mm, has 256 pixels: 64 for 1 mm. From the top the axial slice, of 4 x 3 mm, the coronal one, of
# 4 x 4 mm, and the sagittal one, of 3 x 4 mm and in the middle of the width, with 2 pixels between them
CORONAL, SAGITTAL, HEIGHT, WIDTH, LEFT = 194, 452, 708, 256, 32


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    """Without MONAI Label, the other cannot be imported."""
    with pytest.raises(SystemExit) as ended:
        script(name).main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    assert f"python scripts/{name}.py" in printed  # an example


def test_an_error_of_the_user_ends_with_its_message_alone(tmp_path):
    (tmp_path / "file").touch()
    for main, message in [
        (Mock(side_effect=InputError("no such folder.")), "no such folder."),
        ((tmp_path / "file" / "out").mkdir, f"{tmp_path / 'file' / 'out'}: Not a directory"),
        ((tmp_path / "file").mkdir, f"{tmp_path / 'file'}: File exists"),
    ]:
        with pytest.raises(SystemExit) as ended:
            run(main)
        assert ended.value.code == f"error: {message}"
    for mistake in (ValueError("a bug"), KeyError("a bug")):  # of the code: it keeps its traceback
        with pytest.raises(type(mistake), match="a bug"):
            run(Mock(side_effect=mistake))


def given(*arguments: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_set(parser, "options")
    return read_set(parser.parse_args(arguments).set, "train.json", "inference.json")


def test_values_are_yaml(capsys):
    texts = ("backbone=pvt_v2_b2", "image_size=[288, 384]", "resume=false", "learning_rate=1e-4", "device=a=b", "seed=")
    assert given("--set", *texts) == {
        "backbone": "pvt_v2_b2", "image_size": [288, 384], "resume": False, "learning_rate": 0.0001, "device": "a=b",
        "seed": None,
    }  # fmt: skip
    assert given("--set", "seed=1", "network_def#dropout=2", "--set", "seed=3") == {"seed": 3, "network_def#dropout": 2}
    assert given() == {}  # the default is not filled by an earlier call
    with pytest.raises(SystemExit):
        given("--set", "image_size")
    assert "'image_size' is not of the form KEY=VALUE, such as image_size=352\n" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--set image_size=\[1: the value is not valid YAML"):
        given("--set", "image_size=[1")
    with pytest.raises(InputError, match="--set bakbone: not an option of the configs"):
        given("--set", "image_size=256", "bakbone=1")


@pytest.mark.parametrize(
    ("name", "blocked"), [("label_server", ["torch", "monai", "yaml", "unetv2_monai"]), ("report", ["matplotlib"])]
)
def test_a_command_can_be_imported_without_its_extras(name, blocked):
    """label_server.py starts in any Python; report.py is imported where matplotlib is missing."""
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {name}; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "scripts")
    assert (done.stdout, done.returncode) == ("imported\n", 0), done.stderr


def test_matplotlib_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="matplotlib is missing: pip install matplotlib"):
        pages.new_figure(4, 3)


def test_a_table_has_all_columns():
    assert markdown([{"a": 1, "b": "x"}, {"b": "y", "c": 2.5}]).splitlines() == [
        "| a | b | c |", "|---|---|---|", "| 1 | x | - |", "| - | y | 2.5 |",
    ]  # fmt: skip


def test_a_command_of_the_bundle_that_fails_is_named(tmp_path):
    with pytest.raises(InputError, match=r"(?s)^inference failed, see .*log: .*holds no image"):
        run_bundle("inference", ["inference.json"], {"dataset_dir": tmp_path}, log=tmp_path / "log")


def test_a_command_ends_with_the_one_that_runs_it(tmp_path):
    python, number = tmp_path / "python", tmp_path / "number"
    python.write_text(f"#!/bin/sh\necho $$ > {number}.part\nmv {number}.part {number}\nexec sleep 60\n")
    python.chmod(0o755)
    own = f"from common import bundle; bundle.sys.executable = {str(python)!r}; "
    own += f"bundle.run_bundle('training', [], {{}}, bundle.Path({str(tmp_path / 'log')!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    outer = subprocess.Popen([sys.executable, "-c", own], env=environment, stderr=subprocess.DEVNULL)
    while outer.poll() is None and not number.exists():
        time.sleep(0.1)
    outer.terminate()
    assert outer.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIL"])
def test_slices_by_hand(orientation, channels, tmp_path):
    """One voxel, however the file orders and turns its dimensions; of several channels the first is shown."""
    values = np.zeros(SIZE)
    values[3, 0, 1] = 1  # right, posterior, upper
    turn = ornt_transform(io_orientation(RAS), axcodes2ornt(orientation))
    stored = nibabel.Nifti1Image(values, RAS).as_reoriented(turn)
    mask = np.asarray(stored.dataobj) > 0
    if channels > 1:
        stored = nibabel.Nifti1Image(np.stack([mask, ~mask], axis=-1).astype(float), stored.affine)
    nibabel.save(stored, tmp_path / "volume.nii.gz")
    image, (empty, shown) = picture(str(tmp_path / "volume.nii.gz"), np.zeros_like(mask), mask)

    expected = np.zeros((HEIGHT, WIDTH), bool)  # right at the left, posterior below or at the right, upper above
    expected[128:192, :64] = True
    expected[CORONAL : CORONAL + 128, :64] = True
    expected[SAGITTAL : SAGITTAL + 128, LEFT + 128 : LEFT + 192] = True
    assert np.array_equal([shown, empty], [expected, np.zeros_like(expected)])
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image[160, 8].tolist() == image[CORONAL + 8, 8].tolist() == [255, 255, 255]  # where no edge blurs it
    assert image[8, 200].tolist() == [0, 0, 0]


def test_slices_with_most_of_a_mask():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 3:6, 4] = True
    mask[4, 3:6, 1:8] = True
    assert fullest_slices(mask) == (4, 3, 4)  # the first of several with as much
    assert fullest_slices(np.zeros((9, 8, 7), bool)) == (4, 4, 3)
