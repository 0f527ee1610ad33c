# SPDX-License-Identifier: Apache-2.0
"""Two processes on the CPU, through gloo, against one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unetv2_monai import UNetV2

from ..conftest import ROOT, draw_pairs, script
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, TINY, TRAIN, command, overlays, read_scores, run

MULTI_TRAIN, MULTI_EVALUATE = (str(CONFIGS / f"multi_gpu_{name}.json") for name in ("train", "evaluate"))


def torchrun(config_files: list[str], run_id: str, **options) -> str:
    """What `torchrun --standalone --nproc_per_node=2 -m monai.bundle run ...` prints."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words += command(config_files, run_id, **options, **TINY)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Seven pairs: three fall to validation, which two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("distributed") / "data"
    draw_pairs(folder, 7)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, str]:
    """The output folder of two processes that trained two epochs, and what they printed."""
    out = tmp_path_factory.mktemp("two")
    # what each rank holds at the end, buffers of batch norm included
    keep = out / "keep.yaml"
    keep.write_text(
        f'+training:\n  - "$@validate#evaluator.run()"\n'
        f"  - \"$torch.save(@network_def.state_dict(), '{out}/rank' + os.environ['RANK'] + '.pt')\"\n"
    )
    files = [*TRAIN, MULTI_TRAIN, str(keep)]
    return out, torchrun(files, "training", dataset_dir=data, output_dir=out, val_fraction=0.4, max_epochs=2)


def test_ranks_hold_the_same_weights_and_the_first_alone_saves_and_logs(trained):
    out, printed = trained
    first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    state = torch.load(out / "models" / "model.pt", weights_only=True)
    UNetV2(backbone=DEFAULT_BACKBONE, channels=8).load_state_dict(state, strict=True)
    assert sorted(path.name for path in (out / "models").iterdir()) == ["last.pt", "model.pt"]
    assert printed.count("weights of the best epoch") == 1
    assert len(re.findall(r"Epoch\[2\] Metrics -- .*val_mean_dice", printed)) == 1
    assert len({path.name.split(".")[-2] for path in (out / "tensorboard").iterdir()}) == 1


def test_validation_of_two_equals_that_of_one(data, trained):
    """During training: each rank scores its own share, unevenly split, and the mean is over all images."""
    out, printed = trained
    reported = float(re.findall(r"Epoch\[2\] Metrics -- .*?val_mean_dice: (\d\.\d+)", printed)[0])
    options = {"dataset_dir": data, "eval_section": "validation", "val_fraction": 0.4, **TINY}
    flow = run(EVALUATE, "evaluating", output_dir=out / "one", checkpoint=out / "rank0.pt", **options)
    metrics = flow.parser.get_parsed_content("validate#evaluator").state.metrics
    assert metrics["val_mean_dice"] == pytest.approx(reported, abs=1e-4)


def test_evaluation_by_two_equals_that_by_one(data, trained, tmp_path):
    options = {"dataset_dir": data, "checkpoint": trained[0] / "models" / "model.pt"}
    run(EVALUATE, "evaluating", output_dir=tmp_path / "one", **options, **TINY)
    printed = torchrun([*EVALUATE, MULTI_EVALUATE], "evaluating", output_dir=tmp_path / "two", **options)
    assert printed.count("scores of 7 images") == 1
    for metric in ("dice", "mae"):
        one, two = (read_scores(tmp_path / n / "evaluation", metric) for n in ("one", "two"))
        assert len(one) == 7
        assert two == pytest.approx(one, abs=1e-6)
    one, two = (json.loads((tmp_path / n / "evaluation" / "summary.json").read_text())["data"] for n in ("one", "two"))
    assert two["images"] == one["images"] == 7
    assert two["dice"]["mean"] == pytest.approx(one["dice"]["mean"], abs=1e-6)
    assert two["pooled"]["dice"] == pytest.approx(one["pooled"]["dice"], abs=1e-6)
    script("report").main([str(tmp_path / "two")])  # in one process
    assert (tmp_path / "two" / "report.html").is_file()


def test_two_end_together_at_a_time_limit(data, tmp_path):
    """The clock of each process is its own; one that ends alone leaves the other waiting for its gradients."""
    own_clock = tmp_path / "own_clock.yaml"
    own_clock.write_text('time_limit#limit_sec: "$3600 if @worker else 1"\n')
    files = [*TRAIN, MULTI_TRAIN, *overlays("options/time_limit"), str(own_clock)]
    printed = torchrun(files, "training", dataset_dir=data, output_dir=tmp_path, val_fraction=0.4, max_epochs=5000)
    assert "Epoch[5000]" not in printed


def test_two_go_on_where_two_stopped(data, trained, tmp_path):
    shutil.copytree(trained[0] / "models", tmp_path / "models")
    options = {"dataset_dir": data, "output_dir": tmp_path, "val_fraction": 0.4, "max_epochs": 3, "resume": True}
    printed = torchrun([*TRAIN, MULTI_TRAIN], "training", **options)
    assert re.findall(r"Epoch\[(\d+)\] Metrics -- .*train_mean_dice", printed) == ["3"]
