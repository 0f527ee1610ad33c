# SPDX-License-Identifier: Apache-2.0
"""The command ``unetv2``: which command each line stands for."""

import re
import subprocess
import sys

import pytest

from unetv2_monai.command import command_of, each_fold, fold_scores

from .conftest import ROOT, draw_pair
from .support.workflow import cases, refusal


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("line", "run_id", "configs", "rest"), cases("commands", "runs"))
def test_what_a_run_stands_for(line, run_id, configs, rest):
    files = [f"bundle/configs/{name}".replace("bundle/configs/../../", "") for name in configs.split()]
    listed = files[0] if len(files) == 1 else str(files).replace(" ", "")
    expected = f"-m monai.bundle run {run_id} --config_file {listed} --dataset_dir {rest}"
    assert command_of(line.split()) == expected.split()


@pytest.mark.parametrize(("line", "command"), cases("commands", "scripts"))
def test_what_a_script_stands_for(line, command):
    assert command_of(line.split()) == f"scripts/{command}".split()


@pytest.mark.parametrize(("line", "message"), cases("commands", "unknown"))
def test_names_that_do_not_exist(line, message):
    assert message in refusal(command_of, line.split())


def test_folds_run_one_after_another(tmp_path):
    """A training that was begun goes on, and evaluation scores the held-out images."""
    last = tmp_path / "fold_1" / "models" / "last.pt"
    last.parent.mkdir(parents=True)
    last.touch()
    found = each_fold(f"train DIR --folds 2 --output_dir {tmp_path} --max_epochs 3".split())
    first, second = (" ".join(words) for words in found.values())
    assert first == f"train DIR --folds 2 --max_epochs 3 --fold 0 --output_dir {tmp_path}/fold_0"
    assert second == f"train DIR --folds 2 --max_epochs 3 --fold 1 --output_dir {last.parents[1]} --resume true"
    assert each_fold(f"train DIR --folds=2 --output_dir={tmp_path} --max_epochs=3".split()) == found
    assert "options/folds.yaml" in command_of(first.split())[5]
    (only,) = each_fold(["evaluate", "DIR", "--folds", "1"]).values()
    assert only[3:] == ["1", "--fold", "0", "--output_dir", "output/fold_0", "--eval_section", "validation"]
    (only,) = each_fold(["evaluate", "DIR", "--folds", "1", "--eval_section", "all"]).values()
    expected = "--eval_section all --fold 0 --output_dir output/fold_0 --eval_dir output/fold_0/evaluation_all"
    assert only[4:] == expected.split()
    assert each_fold(["train", "DIR", "--folds", "2", "--fold", "0"]) == each_fold(["segment", "DIR"]) == {}
    assert "--folds must be a positive integer, got 'x'" in refusal(each_fold, ["train", "DIR", "--folds", "x"])


def test_scores_of_folds(tmp_path):
    for fold, dice in enumerate(([0.5, 0.7], [0.9])):
        scores = tmp_path / str(fold) / "evaluation" / "scores.csv"
        scores.parent.mkdir(parents=True)
        scores.write_text("image,dice\n" + "".join(f"a,{value}\n" for value in dice))
    expected = "Dice out of fold: 0.700; of the folds 0.600, 0.900, standard deviation 0.150"
    assert fold_scores([tmp_path / "0", tmp_path / "1"]) == expected


def unetv2(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "unetv2_monai.command", *arguments], capture_output=True, text=True)


def test_help_names_every_command():
    done = unetv2("--help")
    assert done.returncode == 0
    names = ("segment", "train", "evaluate", "calibrate", "report", "check", "export", "label", "labels", "package")
    for name in names:
        assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE)


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
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["case.png", "lesions.csv"]
