# SPDX-License-Identifier: Apache-2.0
"""The TorchScript file as MONAI Deploy's bundle operator reads it: configs and metadata out of the archive, then
preprocessing and postprocessing without their loading and saving, inferer and device by name.
"""

import json
import zipfile

import numpy as np
import torch
from monai.bundle import ConfigParser, ckpt_export
from monai.data import MetaTensor
from PIL import Image

from ..support.workflow import CONFIGS, INFERENCE, run


def without_files(compose):
    compose.transforms = [t for t in compose.transforms if type(t).__name__ not in ("LoadImaged", "SaveImaged")]
    return compose


def test_bundle_operator(package, pairs, tmp_path):
    archive = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def", filepath=str(archive), ckpt_file=str(package / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"), config_file=INFERENCE[0],
    )  # fmt: skip
    parser = ConfigParser()
    with zipfile.ZipFile(archive) as opened:
        parser.read_meta(json.loads(opened.read("model/extra/metadata.json")))
        parser.read_config(json.loads(opened.read("model/extra/inference.json")))
    parser.parse()
    device, inferer = parser.get_parsed_content("device"), parser.get_parsed_content("inferer")
    before, after = (without_files(parser.get_parsed_content(f"{name}processing")) for name in ("pre", "post"))
    assert len(before.transforms) == 5
    names = ["Activationsd", "Invertd", "HysteresisThresholdd", "AsDiscreted", "SaveLesionsd", "SqueezeDimd"]
    assert [type(t).__name__ for t in after.transforms] == names
    assert list(parser["_meta_"]["network_data_format"]["inputs"]) == ["image"]
    assert list(parser["_meta_"]["network_data_format"]["outputs"]) == ["pred"]

    # an image in memory, (width, height, channel) as MONAI's PILReader gives it
    pixels = np.asarray(Image.open(pairs / "images" / "case_5.jpg"), np.float32).transpose(1, 0, 2)
    inputs = before({"image": MetaTensor(pixels.copy(), meta={"original_channel_dim": -1})})
    with torch.no_grad():
        network = torch.jit.load(archive, map_location=device).eval()
        pred = inferer(inputs=inputs["image"][None].to(device), network=network)
    mask = after({**inputs, "pred": pred[0]})["pred"]

    run(INFERENCE, "inference", dataset_dir=pairs, output_dir=tmp_path, checkpoint=package / "model.pt")
    np.testing.assert_array_equal(mask.numpy().T * 255, np.asarray(Image.open(tmp_path / "case_5.png")))
