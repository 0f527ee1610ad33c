# SPDX-License-Identifier: Apache-2.0
"""Training by default, offline: the encoder starts from the bundle's ImageNet weights."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from unetv2_monai import UNetV2

from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, TINY, TRAIN, parsed, run, workflow

FILE = CONFIGS.parent / "models" / f"{DEFAULT_BACKBONE}.safetensors"


def test_every_encoder_weight_comes_from_the_file_and_is_trained(pairs, tmp_path, capsys):
    flow = workflow(TRAIN, "training", dataset_dir=pairs, output_dir=tmp_path, max_epochs=2, **TINY)
    network = flow.parser.get_parsed_content("network")
    assert f"The encoder {DEFAULT_BACKBONE} starts from the weights in {FILE} (ImageNet)." in capsys.readouterr().out
    file, encoder = load_file(FILE), network.encoder.model
    assert file.keys() == encoder.state_dict().keys()
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, file[key].to(value.dtype)), key
    flow.run()
    learnt = dict(encoder.named_parameters())
    moved = {key: (value - file[key]).abs().max().item() for key, value in learnt.items()}
    assert all(0 < distance < 0.1 for distance in moved.values()), moved


def test_random_weights_where_asked_for():
    network = parsed(TRAIN, bundle_dir=".", pretrained=False).get_parsed_content("network")
    stem = network.encoder.model.conv_stem.weight
    assert not torch.equal(stem, load_file(FILE)["conv_stem.weight"].float())


def test_evaluation_starts_from_its_checkpoint_alone(pairs, tmp_path, capsys):
    """It neither reads the file nor says that it starts from it."""
    weights = tmp_path / "model.pt"
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), weights)
    run(EVALUATE, "evaluating", dataset_dir=pairs, output_dir=tmp_path, checkpoint=weights, **TINY)
    assert "starts from" not in capsys.readouterr().out
