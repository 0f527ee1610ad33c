# SPDX-License-Identifier: Apache-2.0
"""What scripts/benchmark.py counts and how it measures. Times themselves are not tested."""

import json

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


def test_counts_by_hand():
    assert benchmark.count({**CONV, "bias": False}, 10) == (3 * 8 * 9, 3 * 8 * 9 * 100)


def test_variants_take_turns():
    default = Variant(options={"network_def": CONV})
    variants = {"first": default, "second": Variant(options={"network_def": CONV}, released=True)}
    rows = benchmark.timed(variants, [(2, 32), (2, 64)], network="conv")
    assert [(row["network"], row["batch"], row["size"], row["path"]) for row in rows] == [
        ("conv", 2, size, name) for size in (32, 64) for name in ("first", "second")
    ]
    assert all(row["ms an image"] > 0 and row["±"] >= 0 and 100 < row["peak MB"] < 10_000 for row in rows)
    first, second = rows[:2]
    assert first["speed-up"] == 1
    assert second["speed-up"] == pytest.approx(first["ms an image"] / second["ms an image"])


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
@pytest.mark.parametrize("part", ["inference", "training"])
def test_every_variant_of_a_part_runs(part, monkeypatch):
    def once(variants, shapes, **common):
        for variant in variants.values():
            benchmark.prepare(variant)(torch.rand(2, 3, 64, 64))
        return [{"path": name} for name in variants]

    monkeypatch.setattr(benchmark, "timed", once)
    for _, rows in benchmark.PARTS[part](True):
        assert {"released", "default"} < {row["path"] for row in rows}


@pytest.mark.skipif(not benchmark.has_bfloat16(), reason="slow and warned of without bfloat16 in the processor")
def test_the_path_in_bfloat16_computes_in_it(outputs):
    for path in (Variant(), Variant(overlays=("options/inference_bf16.yaml",))):
        benchmark.prepare(path)(torch.rand(1, 3, 32, 32))
    assert [found.dtype for found in outputs] == [torch.float32, torch.bfloat16]


def test_parts_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "COUNTED", {"r18": {"backbone": "resnet18"}})  # attention's count depends on torch
    monkeypatch.setattr(benchmark, "describe", lambda: {"threads": 2})
    tables = [("first", [{"size": 1.0, "path": "a"}]), ("second", [{"size": 1234.5}])]
    monkeypatch.setitem(benchmark.PARTS, "inference", lambda full: iter(tables))
    benchmark.main(["--parts", "counts", "--output_dir", str(tmp_path)])
    benchmark.main(["--parts", "inference", "--full", "--output_dir", str(tmp_path)])
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found["counts"]["rows"] == [{"variant": "r18", "parameters (M)": "11.449", "GMACs": "2.608"}]
    rows = [{"size": 1.0, "path": "a"}, {"size": 1234.5}]
    assert found["inference"] == {"machine": {"threads": 2}, "full": True, "rows": rows}
    printed = capsys.readouterr().out
    assert "| r18 | 11.449 | 2.608 |" in printed
    assert "### first\n\n| size | path |\n|---|---|\n| 1.00 | a |" in printed
    assert "| 1234 |" in printed
