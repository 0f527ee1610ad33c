# SPDX-License-Identifier: Apache-2.0
"""What scripts/benchmark.py counts and how it measures. Times themselves are not tested."""

import json

import numpy as np
import pytest
import torch
from benchmarks import parts, timing
from benchmarks.timing import Variant, prepare, timed
from common.bundle import read_config
from PIL import Image

from unetv2_monai import UNetV2

from ..conftest import script
from ..data.folders import touch

CONV = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 8, "kernel_size": 3, "padding": 1}


@pytest.fixture
def outputs(monkeypatch) -> list:
    """What the network gives, call by call."""
    seen, forward = [], UNetV2.forward
    monkeypatch.setattr(UNetV2, "forward", lambda self, x: seen.append(forward(self, x)) or seen[-1])
    return seen


def test_counts_by_hand():
    assert timing.count({**CONV, "bias": False}, 10) == (3 * 8 * 9, 3 * 8 * 9 * 100)


def test_variants_take_turns():
    default = Variant(options={"network_def": CONV})
    variants = {"first": default, "second": Variant(options={"network_def": CONV}, released=True)}
    rows = timed(variants, [(2, 32), (2, 64)], 0.0, network="conv")
    assert [(row["network"], row["batch"], row["size"], row["path"]) for row in rows] == [
        ("conv", 2, size, name) for size in (32, 64) for name in ("first", "second")
    ]
    assert all(row["ms an image"] > 0 and row["±"] >= 0 and 100 < row["peak MB"] < 10_000 for row in rows)
    first, second = rows[:2]
    assert first["speed-up"] == 1
    assert second["speed-up"] == pytest.approx(first["ms an image"] / second["ms an image"])


def test_a_training_step_learns(outputs):
    """Optimiser, loss and network are those of train.json."""
    step = prepare(Variant("training", options={"network_def#channels": 8, "learning_rate": 0.01, "device": "cpu"}))
    images = torch.rand(2, 3, 32, 32)
    for _ in range(8):
        step(images)
    labels = (images[:, :1] > 0.5).float()
    error = [torch.nn.functional.binary_cross_entropy_with_logits(heads[0], labels).item() for heads in outputs]
    assert error[-1] < error[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "full", "count"), [("inference", False, 4), ("training", True, 6), ("steps", True, 4), ("peers", True, 10)]
)
def test_every_variant_of_a_part_runs(part, full, count, tmp_path, monkeypatch):
    def once(variants, shapes, seconds, **common):
        for variant in variants.values():
            if "compile" not in variant.options:  # takes minutes
                prepare(variant)(torch.rand(2, 3, 64, 64))
        row = {**common, "ms an image": 1.0, "speed-up": 1.0, "peak MB": 1}
        return [{**row, "batch": batch, "size": size, "path": name} for batch, size in shapes for name in variants]

    monkeypatch.setattr(parts, "timed", once)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # of this process, for good
    assert sum(len(rows) for _, rows in getattr(parts, part)(full, tmp_path)) >= count


@pytest.mark.skipif(not timing.has_bfloat16(), reason="slow and warned of without bfloat16 in the processor")
def test_the_path_in_bfloat16_computes_in_it(outputs):
    for path in (Variant(), Variant(overlays=("options/inference_bf16.yaml",))):
        prepare(path)(torch.rand(1, 3, 32, 32))
    assert [found.dtype for found in outputs] == [torch.float32, torch.bfloat16]


def test_parts_are_kept(tmp_path, monkeypatch, capsys):
    benchmark = script("benchmark")
    monkeypatch.setattr(parts, "OF_OURS", {"r18": {"backbone": "resnet18"}})  # attention's count depends on torch
    monkeypatch.setattr(benchmark, "describe", lambda: {"threads": 2})
    tables = [("first", [{"size": 1.0, "path": "a"}]), ("second", [{"size": 1234.5}])]
    monkeypatch.setattr(parts, "sizes", lambda full, folder: iter(tables))
    benchmark.main(["--parts", "counts", "--output_dir", str(tmp_path)])
    benchmark.main(["--parts", "sizes", "--full", "--output_dir", str(tmp_path)])
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found["counts"]["rows"] == [{"variant": "r18", "parameters (M)": "11.449", "GMACs": "2.608"}]
    rows = [{"size": 1.0, "path": "a"}, {"size": 1234.5}]
    assert found["sizes"] == {"machine": {"threads": 2}, "full": True, "rows": rows}
    printed = capsys.readouterr().out
    assert "| r18 | 11.449 | 2.608 |" in printed
    assert "### first\n\n| size | path |\n|---|---|\n| 1.00 | a |" in printed
    assert "| 1234 |" in printed


def test_plots(tmp_path):
    benchmark, speed, choice = script("benchmark"), tmp_path / "speed.png", tmp_path / "choice.png"
    benchmark.draw([], [], speed)
    assert not speed.exists()
    row = {"network": "n", "size": 352, "batch": 1, "path": "default", "speed-up": 2.0, "ms an image": 3.0}
    rows = [row, {**row, "batch": 8}, {**row, "size": 256}]
    benchmark.draw(rows, [{"network": "m", "prepared, to ours": 1.5}], speed)
    benchmark.draw_choice([{**row, "Dice": "0.9"}, {**row, "size": 128, "Dice": "0.8"}], choice)
    for path, shape in ((speed, (3 * 2.4, 8)), (choice, (4.5, 2 * 6))):
        with Image.open(path) as image:
            assert image.height / image.width == pytest.approx(shape[0] / shape[1], rel=0.01)


def test_dice_of_a_choice(tmp_path):
    benchmark, table = script("benchmark"), tmp_path / "scores.csv"
    lines = ["unetv2,0,epochs,a,1.png,.5,.4", "unetv2,1,epochs,b,1.png,1,1", "unet,0,epochs,a,1.png,.25,.2"]
    table.write_text("\n".join(["row,seed,terms,dataset,image,dice,iou", *lines, "unet,0,time,a,1.png,0,0"]) + "\n")
    assert benchmark.mean_dice(table) == {"unetv2": 0.75, "unet": 0.25}
    for name, columns in (("mask", 2), ("truth", 3), ("empty", 0)):
        image = np.zeros((4, 4), np.uint8)
        image[:, :columns] = 255
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    for first, second, dice in (("mask", "truth", 2 * 8 / (8 + 12)), ("empty", "empty", 1), ("empty", "truth", 0)):
        found = benchmark.dice_of_files(tmp_path / f"{first}.png", tmp_path / f"{second}.png")
        assert found == pytest.approx(dice)


def test_every_row_of_the_comparison_is_timed(monkeypatch):
    """Those of the committed table; their networks are what is timed."""
    benchmark, seen = script("benchmark"), {}

    def take(variants, shapes, seconds):
        seen.update(variants)
        return [{"path": name, "ms an image": 1.0} for name in variants]

    monkeypatch.setattr(benchmark, "timed", take)
    rows = {row["path"]: row["Dice"] for row in benchmark.compared()}
    assert {"unetv2", "unet", "unetplusplus", "fpn", "segresnet", "unetv2 sdi=false"} <= set(rows)
    assert all(0.5 < float(dice) < 1 for dice in rows.values())
    parser = read_config(seen["unet"].files, seen["unet"].options)
    assert parser["network_def"]["_target_"] == "segmentation_models_pytorch.Unet"
    assert read_config(["inference.json"], seen["unetv2:network_def#sdi=false"].options)["network_def"]["sdi"] is False


def test_rates_of_segment_py_by_hand(tmp_path, monkeypatch):
    """Times that are known stand for the processes: 2 s for one image, 10 s for others, 40 s for run inference."""
    touch(tmp_path, "test/images/a.png")
    monkeypatch.setattr(parts, "demo_images", lambda *arguments: tmp_path)
    for name in ("export", "trained"):
        monkeypatch.setattr(parts, name, lambda *arguments: None)
    monkeypatch.setattr(parts, "seconds", lambda *command: 2.0 if command[3].name == "one" else 10.0)
    monkeypatch.setattr(parts, "run_command", lambda variant, folder, options: 40.0)
    ((_, rows),) = parts.segmenting(True, tmp_path)
    assert [(row["input"], row["s"], row["images a second"]) for row in rows] == [
        ("one image", 2.0, 0.5), ("video", 10.0, 50.0), ("folder, with overlays", 10.0, 100.0),
        ("folder, run inference", 40.0, 25.0),
    ]  # fmt: skip
