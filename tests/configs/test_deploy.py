# SPDX-License-Identifier: Apache-2.0
"""
The TorchScript file as MONAI Deploy's bundle operator reads it: configs and metadata out of the archive, then
preprocessing and postprocessing without their loading and saving, inferer and device by name.
"""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export
from monai.data import MetaTensor
from PIL import Image

from ..support.workflow import CONFIGS, INFERENCE, run


def without_files(compose):
    compose.transforms = [t for t in compose.transforms if type(t).__name__ not in ("LoadImaged", "SaveImaged")]
    return compose


@pytest.fixture(scope="module")
def archive(package, tmp_path_factory):
    path = tmp_path_factory.mktemp("deploy") / "model.ts"
    ckpt_export(
        net_id="network_def", filepath=str(path), ckpt_file=str(package / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"), config_file=INFERENCE[0],
    )  # fmt: skip
    return path


def test_bundle_operator(archive, package, pairs, tmp_path):
    parser = ConfigParser()
    with zipfile.ZipFile(archive) as opened:
        parser.read_meta(json.loads(opened.read("model/extra/metadata.json")))
        config = tmp_path / "inference.json"
        config.write_bytes(opened.read("model/extra/inference.json"))
        parser.read_config([config])
    parser.parse()
    device, inferer = parser.get_parsed_content("device"), parser.get_parsed_content("inferer")
    before, after = (without_files(parser.get_parsed_content(f"{name}processing")) for name in ("pre", "post"))
    assert len(before.transforms) == 4
    names = ["Activationsd", "Invertd", "HysteresisThresholdd", "AsDiscreted", "SqueezeDimd"]
    assert [type(t).__name__ for t in after.transforms] == names
    assert list(parser["_meta_"]["network_data_format"]["inputs"]) == ["image"]
    assert list(parser["_meta_"]["network_data_format"]["outputs"]) == ["pred"]

    # an image in memory, (width, height, channel) as MONAI's PILReader gives it
    name = "case_5"
    with Image.open(pairs / "images" / f"{name}.jpg") as image:
        pixels = np.asarray(image, np.float32).transpose(1, 0, 2)
    inputs = before({"image": MetaTensor(pixels.copy(), meta={"original_channel_dim": -1})})
    with torch.no_grad():
        network = torch.jit.load(archive, map_location=device).eval()
        pred = inferer(inputs=inputs["image"][None].to(device), network=network)
    mask = after({**inputs, "pred": pred[0]})["pred"]

    run(INFERENCE, "inference", dataset_dir=str(pairs), output_dir=str(tmp_path), checkpoint=str(package / "model.pt"))
    with Image.open(tmp_path / f"{name}.png") as expected:
        np.testing.assert_array_equal(mask.numpy().T * 255, np.asarray(expected))
