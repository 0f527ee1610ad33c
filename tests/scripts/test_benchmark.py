# SPDX-License-Identifier: Apache-2.0
"""What scripts/benchmark.py counts and how it measures. Times themselves are not tested."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from benchmarks import choice, commands, machine, networks, segmenting, steps
from benchmarks.stopwatch import Timing, Variant, prepare, start
from common.bundle import read_config
from PIL import Image

from unetv2_monai import InputError, UNetV2

from ..conftest import script

CONV = {
    "_target_": "torch.nn.Conv2d",
    "in_channels": 3,
    "out_channels": 8,
    "kernel_size": 3,
    "padding": 1,
    "bias": False,
}


def test_median_and_spread():
    timing = Timing([1.0, 2.0, 3.0, 4.0, 10.0], 0.0)
    assert timing.median == 3.0
    assert timing.spread == pytest.approx((7.0 - 1.5) / 2)  # quartiles of five values, by statistics.quantiles


def test_counts_and_floor_by_hand():
    parameters, macs, moved = machine.count(CONV, 10)
    assert parameters == 3 * 8 * 9
    assert macs == 3 * 8 * 9 * 100
    assert moved == 4 * (3 * 8 * 9 + 2 * 8 * 100)
    slow = {"limits": {"float32": 1e-3, "bfloat16": 4e-3, "bandwidth": 1e9}}  # 1e6 multiply-accumulates a second
    assert machine.floor(CONV, 10, slow) == pytest.approx(macs / 1e6)
    assert machine.floor(CONV, 10, slow, "bfloat16") == pytest.approx(macs / 4e6)
    narrow = {"limits": {"float32": 1e9, "bfloat16": 1e9, "bandwidth": 1e-3}}  # 1e6 bytes a second
    assert machine.floor(CONV, 10, narrow) == pytest.approx(moved / 1e6)
    assert machine.floor(CONV, 10, narrow, "bfloat16") == pytest.approx(moved / 2e6)


def test_variants_take_turns():
    variants = {"first": Variant(options={"network_def": CONV, "load_pretrain": False})}
    variants["second"] = Variant(options={"network_def": CONV, "load_pretrain": False}, released=True)
    with start(variants) as workers:
        for size in (32, 64):
            timings = workers.take_turns(2, size, 0.0)
            assert list(timings) == ["first", "second"]
            assert [len(timing.seconds) for timing in timings.values()] == [3, 3]
            assert all(seconds > 0 for timing in timings.values() for seconds in timing.seconds)
        assert all(100 < timing.peak < 10_000 for timing in timings.values())
        processes = list(workers.processes.values())
    assert all(process.poll() is not None for process in processes)


def test_a_variant_that_cannot_run(capfd):
    with pytest.raises(RuntimeError, match="nobody stopped"), start({"nobody": Variant(overlays=("options/no.yaml",))}):
        pass
    assert "no.yaml" in capfd.readouterr().err


def test_a_training_step_learns(monkeypatch):
    """The loss of a batch falls when its step is repeated: optimiser, loss and network are those of train.json."""
    seen = []
    forward = UNetV2.forward
    monkeypatch.setattr(UNetV2, "forward", lambda self, x: seen.append(forward(self, x)) or seen[-1])
    step = prepare(Variant("training", options={"network_def#channels": 8, "learning_rate": 0.01, "device": "cpu"}))
    images = torch.rand(2, 3, 32, 32)
    for _ in range(8):
        step(images)
    labels = (images[:, :1] > 0.5).float()
    error = [torch.nn.functional.binary_cross_entropy_with_logits(heads[0], labels).item() for heads in seen]
    assert error[-1] < error[0]


def test_parts_are_kept(tmp_path, monkeypatch, capsys):
    benchmark = script("benchmark")
    monkeypatch.setattr(networks, "OF_OURS", {"b0": {"backbone": "pvt_v2_b0"}})
    monkeypatch.setitem(benchmark.PARTS, "sizes", lambda full, folder, here: iter([[{"full": full}], [{"size": 1}]]))
    benchmark.main(["--parts", "counts", "--output_dir", str(tmp_path)])
    benchmark.main(["--parts", "sizes", "--full", "--output_dir", str(tmp_path)])
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found["counts"]["rows"] == [{"variant": "b0", "parameters (M)": "3.636", "GMACs": "0.986"}]
    assert found["sizes"]["rows"] == [{"full": True}, {"size": 1}]
    assert found["counts"]["machine"]["limits"]["float32"] > 0
    assert "| b0 | 3.636 | 0.986 |" in capsys.readouterr().out


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        commands.Command(("inference.json",)).run("inference", {"dataset_dir": tmp_path}, tmp_path)


@pytest.mark.parametrize(
    ("operation", "weight", "kind"),
    [
        ("aten::convolution_backward", [8, 1, 3, 3], "depthwise convolutions, backward"),
        ("aten::convolution_backward", [8, 4, 1, 1], "1x1 convolutions, backward"),
        ("aten::mkldnn_convolution", [8, 4, 3, 3], "other convolutions, forward"),
        ("aten::mkldnn_convolution", [1, 1, 3, 3], "other convolutions, forward"),
        ("aten::native_batch_norm_backward", None, "batch norm"),
        ("aten::hardtanh_backward", None, "activations"),
        ("aten::mul", None, "everything else"),
    ],
)
def test_kinds_of_a_profile(operation, weight, kind):
    image = [2, weight[1] if weight else 4, 4, 4]
    gradient = [[2, weight[0], 4, 4]] if operation.endswith("convolution_backward") else []
    assert steps.kind_of(operation, [*gradient, image, weight, []] if weight else [image]) == kind


def test_dice_of_a_choice(tmp_path):
    table = tmp_path / "scores.csv"
    lines = ["unetv2,0,epochs,a,1.png,.5,.4", "unetv2,1,epochs,b,1.png,1,1", "unet,0,epochs,a,1.png,.25,.2"]
    table.write_text("\n".join(["row,seed,terms,dataset,image,dice,iou", *lines, "unet,0,time,a,1.png,0,0"]) + "\n")
    assert choice.mean_dice(table) == {"unetv2": 0.75, "unet": 0.25}
    for name, columns in (("mask", 2), ("truth", 3), ("empty", 0)):
        image = np.zeros((4, 4), np.uint8)
        image[:, :columns] = 255
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    assert choice.dice_of_files(tmp_path / "mask.png", tmp_path / "truth.png") == pytest.approx(2 * 8 / (8 + 12))
    assert choice.dice_of_files(tmp_path / "empty.png", tmp_path / "empty.png") == 1
    assert choice.dice_of_files(tmp_path / "empty.png", tmp_path / "truth.png") == 0


def test_every_row_of_the_comparison_is_timed(monkeypatch):
    """Those of the committed table; their networks are what is timed."""
    seen = {}
    monkeypatch.setattr(choice, "timed", lambda variants, dice, size: seen.update(variants) or [])
    choice.compared()
    assert {"unetv2", "unet", "unetplusplus", "fpn", "segresnet", "unetv2 sdi=false"} <= set(seen)
    parser = read_config(["inference.json", *seen["unet"].overlays], seen["unet"].options)
    assert parser["network_def"]["_target_"] == "segmentation_models_pytorch.Unet"
    assert read_config(["inference.json"], seen["unetv2 sdi=false"].options)["network_def"]["sdi"] is False


def test_rates_of_segment_py_by_hand(tmp_path, monkeypatch):
    """Times that are known stand for the processes: 2 s for one image, 10 s for others, 40 s for run inference."""
    monkeypatch.setattr(segmenting, "prepare", lambda folder, images, frames: folder / "model.xml")
    monkeypatch.setattr(segmenting, "seconds", lambda command: 2.0 if command[3].name == "one.png" else 10.0)
    monkeypatch.setattr(commands.Command, "run", lambda self, run_id, options, folder: 40.0)
    (rows,) = segmenting.segmenting(True, tmp_path, {})
    found = {row["input"]: row for row in rows}
    assert (found["one image"]["s"], found["one image"]["images a second"]) == (2.0, 0.5)
    assert found["video"]["images a second"] == 50.0
    assert (found["folder"]["images a second"], found["folder"]["to run inference"]) == (100.0, 4.0)
    assert (found["folder, run inference"]["images a second"], found["folder, run inference"]["to run inference"]) == (
        25.0,
        1.0,
    )


def test_the_folder_holds_drawn_images_again_and_again(tmp_path, monkeypatch):
    made = segmenting.seconds
    monkeypatch.setattr(segmenting, "seconds", lambda command: "export.py" in str(command) or made(command))
    monkeypatch.setattr(segmenting, "DRAWN", 2)
    pytest.importorskip("av")
    assert segmenting.prepare(tmp_path / "a", 3, 2) == tmp_path / "a" / "model.xml"
    names = sorted(path.name for path in (tmp_path / "a" / "many").iterdir())
    assert names == ["frame_0000.png", "frame_0001.jpg", "frame_0002.png"]
    assert (tmp_path / "a" / "many" / names[0]).read_bytes() == (tmp_path / "a" / "many" / names[2]).read_bytes()
    assert (tmp_path / "a" / "video.mp4").is_file()
