# SPDX-License-Identifier: Apache-2.0
"""Networks of segmentation_models.pytorch, which are compared with U-Net v2: they have its encoder and its start."""

from __future__ import annotations

import pytest
import timm
import torch
from common.bundle import read_config
from safetensors.torch import save_file

from unetv2_monai.networks import load_encoder

from ..support.workflow import TRAIN, overlays, refusal, workflow

SMP = ("unet", "unetplusplus", "fpn")


def random_weights(backbone):
    """Of its features, statistics included: none of the values that a network starts with by itself."""
    torch.manual_seed(9)
    state = timm.create_model(backbone, features_only=True).state_dict()
    return {k: torch.rand_like(v) + 0.5 if v.is_floating_point() else v + 1 for k, v in state.items()}


@pytest.mark.parametrize("recipe", SMP)
def test_same_file(recipe, pairs, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    state = random_weights("resnet10t")
    save_file(state, tmp_path / "start.safetensors")
    files = [*TRAIN, *overlays(f"recipes/{recipe}")]
    options = {"dataset_dir": pairs, "output_dir": tmp_path, "image_size": 64, "backbone": "resnet10t"}
    options["pretrained"] = tmp_path / "start.safetensors"
    flow = workflow(files, "training", **options)
    found = flow.parser.get_parsed_content("network").encoder.model.state_dict()
    assert found.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)
    del state[[key for key in state if key.endswith("weight")][-1]]
    save_file(state, tmp_path / "start.safetensors")
    message = refusal(workflow, files, "training", **options)
    assert "start.safetensors does not hold the weights of this backbone" in message


def test_weights_of_the_library_and_none(monkeypatch):
    """Nothing is downloaded here: timm is asked for a pretrained model, and a file of weights stands for its."""
    features, state, create = timm.create_model("resnet10t", features_only=True), random_weights("resnet10t"), []
    before = {key: value.clone() for key, value in features.state_dict().items()}
    load_encoder(features, False, "resnet10t")
    assert all(torch.equal(value, before[key]) for key, value in features.state_dict().items())
    library = timm.create_model("resnet10t", features_only=True)
    library.load_state_dict(state)
    monkeypatch.setattr(timm, "create_model", lambda *names, **options: create.append((*names, options)) or library)
    load_encoder(features, True, "resnet10t")
    assert create == [("resnet10t", {"features_only": True, "pretrained": True})]
    assert all(torch.equal(value, state[key]) for key, value in features.state_dict().items() if value.ndim)


@pytest.mark.parametrize("recipe", SMP)
def test_same_encoder_and_drop_path(recipe):
    pytest.importorskip("segmentation_models_pytorch")

    def drops(network):
        return [m.drop_prob for m in network.encoder.modules() if isinstance(m, timm.layers.DropPath)]

    options = {"backbone": "tf_efficientnet_lite0", "pretrained": False}
    files = (["train.json"], ["train.json", f"recipes/{recipe}.yaml"])
    ours, other = (read_config(names, options).get_parsed_content("network_def") for names in files)
    assert drops(other) == drops(ours) != []
    assert other.encoder.model.state_dict().keys() == ours.encoder.model.state_dict().keys()
