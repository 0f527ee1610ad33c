# SPDX-License-Identifier: Apache-2.0
"""Exported files: as equal as scripts/export.py says, and run by the inference config through their overlays."""

import contextlib
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, UNetV2
from unetv2_monai.core.description import BIN_KEY

from ..conftest import ROOT, script
from ..support.exported import exports_onnx
from ..support.workflow import DEFAULT_BACKBONE, INFERENCE, overlays, run

FILES = {"torchscript": "model.ts", "export": "model.pt2", "onnx": "model.onnx", "openvino": "model.xml"}
pytestmark = [pytest.mark.slow, exports_onnx]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, str]:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    net = UNetV2(backbone=DEFAULT_BACKBONE)
    with torch.no_grad():
        net.heads[0].weight *= 30  # masks of both values
    torch.save(net.state_dict(), folder / "model.pt")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        script("export").main(["--checkpoint", str(folder / "model.pt"), "--set", "image_size=64"])
    return folder, printed.getvalue()


def test_table(exported):
    folder, printed = exported
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    assert [row[1].strip("`") for row in rows[2:]] == list(FILES.values())
    for row in rows[2:]:
        assert float(row[2]) * 1e6 == pytest.approx(3.6e6 * 4, rel=0.2)  # 3.6 M parameters of 4 bytes
        assert float(row[5]) > 0.5
        assert float(row[4]) <= 1e-4 * max(1.0, float(row[5]))
        assert float(row[6]) > 0.999
    assert [row[3] != "-" for row in rows[2:]] == [False, False, True, True]
    sha256 = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
    assert f'<{BIN_KEY} value="{sha256}"' in (folder / "model.xml").read_text()


@pytest.mark.parametrize("runtime", FILES)
def test_inference_through_the_overlay(runtime, exported, pairs, tmp_path):
    folder, _ = exported
    options = {"dataset_dir": str(pairs), "image_size": 64}
    run(INFERENCE, "inference", checkpoint=str(folder / "model.pt"), output_dir=str(tmp_path / "eager"), **options)
    options |= {"checkpoint": str(folder / FILES[runtime]), "output_dir": str(tmp_path / "exported")}
    run([*INFERENCE, *overlays(f"options/inference_{runtime}")], "inference", **options)
    for path in (tmp_path / "eager").glob("*.png"):
        with Image.open(path) as eager, Image.open(tmp_path / "exported" / path.name) as found:
            expected = np.asarray(eager)
            assert found.size == eager.size
            assert np.mean(np.asarray(found) != expected) < 0.001
            assert set(np.unique(expected)) == {0, 255}


def test_tensorrt_overlay_is_the_torchscript_one_on_an_engine():
    """Not run here: that takes an NVIDIA GPU with torch_tensorrt."""
    files = overlays("options/inference_trt", "options/inference_torchscript")
    trt, torchscript = map(ConfigParser.load_config_file, files)
    assert trt.pop("+imports") == ["$import torch_tensorrt"]
    assert trt.pop("evaluator#amp") is False
    assert trt.pop("checkpoint").endswith("model_trt.ts'")
    torchscript.pop("checkpoint")
    torchscript["network"] = torchscript["network"].removesuffix(".to(memory_format=@memory_format)")  # has its own
    assert trt == torchscript


def test_wrong_weights_are_refused(tmp_path):
    torch.save(UNetV2(backbone="pvt_v2_b1").state_dict(), tmp_path / "model.pt")
    for path, message in (
        (tmp_path / "model.pt", "holds weights of another network"),
        (ROOT / "bundle" / "models" / "volumes.pt", "volumes.pt are for volumes, and export takes networks for images"),
    ):
        with pytest.raises(InputError, match=message):
            script("export").main(["--checkpoint", str(path), "--output_dir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
