# SPDX-License-Identifier: Apache-2.0
"""The packed bundle in a folder of its own, used from another one, on a machine where this project is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import UNetV2

from ..conftest import ROOT, draw_pair
from ..support.workflow import DEFAULT_BACKBONE, INFERENCE, run

# what the editable installation of the project leaves in the interpreter, undone before anything else runs
NOT_INSTALLED = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "unetv2" not in getattr(finder, "__module__", "")]
sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]
"""


@pytest.fixture
def elsewhere(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cwd")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NOT_INSTALLED)
    return folder


def python(elsewhere: Path, *arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(elsewhere / "site"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)


def ok(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_project_itself_is_not_importable_here(elsewhere):
    done = python(elsewhere, "-c", "import unetv2_monai")
    assert "No module named 'unetv2_monai'" in done.stderr


def code_of(call: str, unpacked: Path, elsewhere: Path) -> str:
    """Python that makes ``net`` by ``call`` and saves what it predicts and where its code came from."""
    return f"""
import sys, torch
from monai.bundle import create_workflow, load
bundle = {str(unpacked)!r}
{call}
x = torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96)
with torch.no_grad():
    torch.save(net.eval()(x), {str(elsewhere / "out.pt")!r})
print(sys.modules["unetv2_monai"].__file__)
"""


CALLS = {
    "load": "net = load({name!r}, bundle_dir={parent!r}, workflow_type={kind!r}, device='cpu')",
    "create_workflow": (
        "flow = create_workflow(config_file=bundle + '/configs/{kind}.json', workflow_type={kind!r})\n"
        "net = flow.parser.get_parsed_content('network_def')\n"
        "net.load_state_dict(torch.load(bundle + '/models/model.pt', weights_only=True))"
    ),
}


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("load", "inference"),
        ("create_workflow", "train"),
        pytest.param("load", "train", marks=pytest.mark.slow),
        pytest.param("create_workflow", "inference", marks=pytest.mark.slow),
    ],
)
def test_python(call, kind, unpacked, elsewhere, pairs):
    draw_pair(elsewhere / "data", "case", 48, 48)  # ./data is the default of dataset_dir
    call = CALLS[call].format(name=unpacked.name, parent=str(unpacked.parent), kind=kind)
    printed = ok(python(elsewhere, "-c", code_of(call, unpacked, elsewhere)))
    assert Path(printed.splitlines()[-1]) == unpacked / "unetv2_monai" / "__init__.py"
    net = UNetV2(backbone=DEFAULT_BACKBONE)
    net.load_state_dict(torch.load(unpacked / "models" / "model.pt", weights_only=True))
    with torch.no_grad():
        expected = net.eval()(torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96))
    torch.testing.assert_close(torch.load(elsewhere / "out.pt"), expected)


def bundle_command(elsewhere: Path, *arguments: object) -> str:
    return ok(python(elsewhere, "-m", "monai.bundle", *arguments))


def test_inference_finds_the_weights_beside_its_config(unpacked, elsewhere, pairs, tmp_path):
    config = unpacked / "configs" / "inference.json"
    printed = bundle_command(
        elsewhere, "run", "inference", "--config_file", config, "--dataset_dir", pairs, "--image_size", 64
    )
    assert "6 masks written to ./output/masks" in printed
    run(
        INFERENCE, "inference", dataset_dir=str(pairs), output_dir=str(tmp_path / "masks"), image_size=64,
        checkpoint=str(unpacked / "models" / "model.pt"),
    )  # fmt: skip
    for path in (tmp_path / "masks").iterdir():
        with Image.open(path) as expected, Image.open(elsewhere / "output" / "masks" / path.name) as found:
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.slow
def test_training_and_evaluation(unpacked, elsewhere, pairs):
    configs = unpacked / "configs"
    shape = ["--dataset_dir", pairs, "--image_size", 32, "--batch_size", 3]
    bundle_command(
        elsewhere, "run", "training", "--config_file", configs / "train.json", "--max_epochs", 1, "--val_fraction",
        0.2, *shape,
    )  # fmt: skip
    assert (elsewhere / "output" / "models" / "model.pt").is_file()
    assert not (unpacked / "output").exists()
    files = [str(configs / "train.json"), str(configs / "evaluate.json")]
    bundle_command(elsewhere, "run", "evaluating", "--config_file", files, *shape)
    assert (elsewhere / "output" / "evaluation" / "scores.csv").is_file()


def test_verify_net_in_out(unpacked, elsewhere):
    configs = unpacked / "configs"
    arguments = ["--config_file", configs / "inference.json", "--meta_file", configs / "metadata.json"]
    bundle_command(elsewhere, "verify_net_in_out", "--net_id", "network_def", *arguments)


def test_ckpt_export(unpacked, elsewhere):
    bundle_command(
        elsewhere, "ckpt_export", "--filepath", elsewhere / "model.ts", "--config_file",
        unpacked / "configs" / "inference.json", "--ckpt_file", unpacked / "models" / "model.pt",
        "--meta_file", unpacked / "configs" / "metadata.json",
    )  # fmt: skip
    assert (elsewhere / "model.ts").is_file()
