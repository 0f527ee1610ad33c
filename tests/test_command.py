# SPDX-License-Identifier: Apache-2.0
"""The command ``unetv2``: which command each line stands for."""

import re
import subprocess
import sys

import pytest

from unetv2_monai.command import command_of

from .conftest import ROOT, draw_pair
from .support.workflow import refusal


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


# RUN is `-m monai.bundle run`, CONFIGS the folder
LINES = [
    ("segment DIR", "RUN inference --config_file CONFIGS/inference.json --dataset_dir DIR"),
    (
        "segment DIR --weights skin_lesions --output_dir out",
        "RUN inference --config_file CONFIGS/inference.json --dataset_dir DIR "
        "--checkpoint bundle/models/skin_lesions.pt --output_dir out",
    ),
    (
        "segment DIR --weights volumes --with tta",
        "RUN inference --config_file "
        "['CONFIGS/inference.json','CONFIGS/recipes/volumes.yaml','CONFIGS/options/inference_tta.yaml'] "
        "--dataset_dir DIR --checkpoint bundle/models/volumes.pt",
    ),
    (
        "segment DIR --with inference_onnx --weights README.md",  # any file that is not of PyTorch
        "RUN inference --config_file ['CONFIGS/inference.json','CONFIGS/options/inference_onnx.yaml'] "
        "--dataset_dir DIR --checkpoint README.md",
    ),
    (
        "train DIR --with recommended ema --image_size 352 --max_epochs=3",
        "RUN training --config_file "
        "['CONFIGS/train.json','CONFIGS/recipes/recommended.yaml','CONFIGS/options/ema.yaml'] "
        "--dataset_dir DIR --image_size 352 --max_epochs=3",
    ),
    (
        "evaluate DIR --with recommended tta",
        "RUN evaluating --config_file ['CONFIGS/train.json','CONFIGS/recipes/recommended.yaml',"
        "'CONFIGS/evaluate.json','CONFIGS/options/tta.yaml'] --dataset_dir DIR",
    ),
    ("train %d", "RUN training --config_file CONFIGS/train.json --dataset_dir ./%d"),
    ("report output", "scripts/report.py output"),
    ("check DIR", "scripts/check_data.py --dataset_dir DIR --output_dir output/check"),
    ("check DIR --output_dir o", "scripts/check_data.py --dataset_dir DIR --output_dir o"),
    ("check --help", "scripts/check_data.py --help"),
    ("export model.pt --formats onnx", "scripts/export.py --checkpoint model.pt --formats onnx"),
    ("label DIR", "scripts/label_server.py --images DIR"),
    ("package", "scripts/package_bundle.py"),
    ("package polyps", "scripts/package_bundle.py --entry polyps"),
    ("export polyps", "scripts/export.py --checkpoint bundle/models/model.pt"),
    ("label DIR --checkpoint polyps", "scripts/label_server.py --images DIR --checkpoint bundle/models/model.pt"),
    (
        "train DIR --with .pre-commit-config.yaml",  # any file
        "RUN training --config_file ['CONFIGS/train.json','.pre-commit-config.yaml'] --dataset_dir DIR",
    ),
]


@pytest.mark.parametrize(("line", "command"), LINES)
def test_what_a_line_stands_for(line, command):
    command = command.replace("RUN", "-m monai.bundle run").replace("CONFIGS", "bundle/configs")
    assert command_of(line.split()) == command.split()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train DIR --with recomended", "--with recomended: there is no such file; there is bf16_cpu, "),
        ("segment DIR --weights nose", "--weights nose: there is no such file. The shipped weights are polyps, "),
    ],
)
def test_names_that_do_not_exist(line, message):
    assert message in refusal(command_of, line.split())


def unetv2(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "unetv2_monai.command", *arguments], capture_output=True, text=True)


def test_help_names_every_command():
    done = unetv2("--help")
    assert done.returncode == 0
    for name in ("segment", "train", "evaluate", "report", "check", "export", "label", "package"):
        assert re.search(rf"^    {name} ", done.stdout, re.MULTILINE)


def test_an_error_is_one_sentence():
    done = unetv2("segment", "DIR", "--weights", "nose")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --weights nose")
    assert len(done.stderr.splitlines()) == 1


def test_the_real_command_is_printed_and_run(tmp_path):
    """As a shell would take it."""
    draw_pair(tmp_path, "case", 60, 48)
    folders = [str(tmp_path / "images"), str(tmp_path / "masks")]
    done = unetv2("segment", folders[0], "--weights", "skin_lesions", "--with", "tta", "--output_dir", folders[1])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == (
        "python -m monai.bundle run inference --config_file \"['bundle/configs/inference.json',"
        f"'bundle/configs/options/inference_tta.yaml']\" --dataset_dir {folders[0]} "
        f"--checkpoint bundle/models/skin_lesions.pt --output_dir {folders[1]}"
    )
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["case.png"]
