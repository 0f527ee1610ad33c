# SPDX-License-Identifier: Apache-2.0
"""What scripts/benchmark.py counts and how it measures. Times themselves are not tested."""

import pytest
import torch

from unetv2_monai import UNetV2

from ..conftest import script

benchmark = script("benchmark")
Variant = benchmark.Variant
CONV = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 8, "kernel_size": 3, "padding": 1}


@pytest.fixture
def outputs(monkeypatch) -> list:
    """What the network gives, call by call."""
    seen, forward = [], UNetV2.forward
    monkeypatch.setattr(UNetV2, "forward", lambda self, x: seen.append(forward(self, x)) or seen[-1])
    return seen


def test_counts_by_hand(monkeypatch, capsys):
    assert benchmark.count({**CONV, "bias": False}, 10) == (3 * 8 * 9, 3 * 8 * 9 * 100)
    monkeypatch.setattr(benchmark, "COUNTED", {"r18": {"backbone": "resnet18"}})  # attention's count depends on torch
    benchmark.main(["--counts"])
    assert "| r18 | 11.449 | 2.608 |" in capsys.readouterr().out


def test_variants_take_turns(monkeypatch, capsys):
    default = Variant(options={"network_def": CONV})
    variants = {"first": default, "second": default._replace(released=True)}
    monkeypatch.setattr(benchmark, "variants_of", lambda work, backbone: variants)
    monkeypatch.setattr(benchmark, "SHAPES", {"inference": ((2, 32), (2, 64))})
    benchmark.main(["--backbone", "conv"])
    printed, *cells = capsys.readouterr().out.split("### ")
    assert "torch " in printed
    rows = [line.strip("| ").split(" | ") for line in cells[0].splitlines() if line.startswith("| 2")]
    assert [row[:3] for row in rows] == [["2", size, name] for size in ("32", "64") for name in variants]
    assert [row[5] for row in rows[::2]] == ["1.00", "1.00"]


def test_a_training_step_learns(outputs):
    """Optimiser, loss and network are those of train.json."""
    step = benchmark.prepare(
        Variant("training", options={"network_def#channels": 8, "learning_rate": 0.01, "device": "cpu"})
    )
    images = torch.rand(2, 3, 32, 32)
    for _ in range(8):
        step(images)
    labels = (images[:, :1] > 0.5).float()
    error = [torch.nn.functional.binary_cross_entropy_with_logits(heads[0], labels).item() for heads in outputs]
    assert error[-1] < error[0]


@pytest.mark.slow
@pytest.mark.parametrize("work", ["inference", "training"])
def test_every_variant_runs(work):
    for variant in benchmark.variants_of(work, "pvt_v2_b0").values():
        benchmark.prepare(variant)(torch.rand(2, 3, 64, 64))


@pytest.mark.skipif(not benchmark.has_bfloat16(), reason="slow and warned of without bfloat16 in the processor")
def test_the_path_in_bfloat16_computes_in_it(outputs):
    for path in (Variant(), Variant(overlays=("options/inference_bf16.yaml",))):
        benchmark.prepare(path)(torch.rand(1, 3, 32, 32))
    assert [found.dtype for found in outputs] == [torch.float32, torch.bfloat16]
