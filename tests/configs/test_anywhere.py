# SPDX-License-Identifier: Apache-2.0
"""The packed bundle in a folder of its own, used from another one, on a machine where this project is not installed."""

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
from ..support.workflow import DEFAULT_BACKBONE, INFERENCE, command, run

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


def python(elsewhere: Path, *words: object, error: str = "") -> str:
    """What Python prints there; fails unless it ends well, or with ``error``."""
    environment = {**os.environ, "PYTHONPATH": str(elsewhere / "site"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert error in done.stderr if error else done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_project_itself_is_not_importable_here(elsewhere):
    python(elsewhere, "-c", "import unetv2_monai", error="No module named 'unetv2_monai'")


LOAD = "net = load({name!r}, bundle_dir={parent!r}, workflow_type={kind!r}, device='cpu')"
CREATE = """
flow = create_workflow(config_file=bundle + '/configs/{kind}.json', workflow_type={kind!r})
net = flow.parser.get_parsed_content('network_def')
net.load_state_dict(torch.load(bundle + '/models/model.pt', weights_only=True))
"""
PREDICT = """
import sys, torch
from monai.bundle import create_workflow, load
bundle = {bundle!r}
{call}
x = torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96)
with torch.no_grad():
    torch.save(net.eval()(x), "out.pt")
print(sys.modules["unetv2_monai"].__file__)
"""


@pytest.mark.parametrize(("call", "kind"), [(LOAD, "inference"), (CREATE, "train")])
def test_python(call, kind, unpacked, elsewhere):
    """It predicts as the network of this project, by the bundle's own code."""
    draw_pair(elsewhere / "data", "case", 48, 48)  # ./data is the default of dataset_dir
    call = call.format(name=unpacked.name, parent=str(unpacked.parent), kind=kind)
    printed = python(elsewhere, "-c", PREDICT.format(call=call, bundle=str(unpacked)))
    assert Path(printed.splitlines()[-1]) == unpacked / "unetv2_monai" / "__init__.py"
    net = UNetV2(backbone=DEFAULT_BACKBONE)
    net.load_state_dict(torch.load(unpacked / "models" / "model.pt", weights_only=True))
    with torch.no_grad():
        expected = net.eval()(torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96))
    torch.testing.assert_close(torch.load(elsewhere / "out.pt"), expected)


def test_inference_finds_the_weights_beside_its_config(unpacked, elsewhere, pairs, tmp_path):
    config, weights = unpacked / "configs" / "inference.json", unpacked / "models" / "model.pt"
    printed = python(elsewhere, *command(config, "inference", dataset_dir=pairs, image_size=64))
    assert "6 masks written to ./output/masks" in printed
    run(INFERENCE, "inference", dataset_dir=pairs, output_dir=tmp_path / "masks", image_size=64, checkpoint=weights)
    for path in (tmp_path / "masks").glob("*.png"):
        found = np.asarray(Image.open(elsewhere / "output" / "masks" / path.name))
        np.testing.assert_array_equal(found, np.asarray(Image.open(path)))
