# SPDX-License-Identifier: Apache-2.0
"""segment.py on images: the masks of ``run inference``, tables, broken files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import HysteresisThresholdd, OpenVINONetwork, list_images, to_rgb
from unetv2_monai.core.listing import IMAGE_ENDINGS
from unetv2_monai.data import layouts

from ..conftest import ROOT, draw_pair, script
from ..support.exported import RGB, description, write_bright
from ..support.segmenting import blobs, read_table, segment
from ..support.workflow import CONFIGS, INFERENCE, run

pytest.importorskip("openvino")

from common.exports import describe
from runtime import images as runtime_images
from runtime import masks
from runtime.files import InputError, ahead
from runtime.images import Frame
from runtime.network import Network

from unetv2_monai.core.description import Description

OPENVINO = [*INFERENCE, str(CONFIGS / "options" / "inference_openvino.yaml")]


@pytest.fixture(scope="module")
def every_mode(tmp_path_factory) -> Path:
    """Images of all modes, and of sizes below, at and above the network's."""
    folder = tmp_path_factory.mktemp("modes")
    image = blobs(97, 75, 0)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    image.save(folder / "turned.jpg", quality=95, exif=exif)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "grey16.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200).save(folder / "dark16.tif")
    for mode in ("L", "LA", "P", "RGBA", "1"):
        image.convert(mode).save(folder / f"mode_{mode}.png")
    image.convert("CMYK").save(folder / "cmyk.tif")
    for width, height in ((64, 64), (64, 200), (333, 64), (31, 17), (513, 387), (1, 40)):
        blobs(width, height, width).save(folder / f"size_{width}x{height}.bmp")
    return folder


def compare_folders(expected: Path, found: Path) -> None:
    names = {path.name for path in expected.glob("*.png")}
    assert names == {path.name for path in found.glob("*.png")}
    for name in names:
        with Image.open(expected / name) as one, Image.open(found / name) as other:
            assert one.size == other.size
            assert one.mode == other.mode
            a, b = np.asarray(one), np.asarray(other)
        both, either = np.sum((a > 0) & (a == b)), np.sum(a > 0) + np.sum(b > 0)
        assert either == 0 or 2 * both / either >= 0.999, name


@pytest.mark.parametrize("certainty", [0.5, 0.95])
def test_masks_are_those_of_run_inference(certainty, every_mode, tmp_path):
    model = write_bright(tmp_path / "model.xml", description((64, 48), certainty=certainty))
    run(
        OPENVINO, "inference", dataset_dir=str(every_mode), output_dir=str(tmp_path / "bundle"), checkpoint=str(model),
        image_size=[64, 48], certainty=certainty,
    )  # fmt: skip
    segment(model, every_mode, "--output_dir", tmp_path / "out")
    compare_folders(tmp_path / "bundle", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 15
    shares = [float(row["area"]) for row in read_table(tmp_path / "out" / "images.csv")]
    assert 0.1 < np.mean(shares) < 0.9


def test_masks_of_several_classes(every_mode, tmp_path):
    three = description(out_channels=3, classes=("background", "polyp", "tool"), threshold=None)
    model = write_bright(tmp_path / "model.xml", three)
    run(
        OPENVINO, "inference", dataset_dir=str(every_mode), output_dir=str(tmp_path / "bundle"), checkpoint=str(model),
        image_size=64, out_channels=3,
    )  # fmt: skip
    segment(model, every_mode, "--output_dir", tmp_path / "out")
    compare_folders(tmp_path / "bundle", tmp_path / "out")
    for row in read_table(tmp_path / "out" / "images.csv"):
        assert float(row["area polyp"]) + float(row["area tool"]) == pytest.approx(float(row["area"]), abs=2e-6)


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="its ONNX exporter has no adaptive max pooling")
@pytest.mark.parametrize("file", ["model.xml", "model.onnx"])
def test_shipped_weights_on_real_images(file, real_data, tmp_path):
    pytest.importorskip("onnxscript")
    weights, images = ROOT / "bundle" / "models" / "model.pt", real_data / "polyp" / "test" / "clinicdb"
    name = "openvino" if file == "model.xml" else "onnx"
    script("export").main(["--checkpoint", str(weights), "--formats", name, "--output_dir", str(tmp_path)])
    run(INFERENCE, "inference", dataset_dir=str(images), output_dir=str(tmp_path / "bundle"), checkpoint=str(weights))
    segment(tmp_path / file, images, "--output_dir", tmp_path / "out")
    compare_folders(tmp_path / "bundle", tmp_path / "out")


def test_description_is_that_of_the_configs(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    found = describe({"image_size": [64, 96], "certainty": 0.8, "backbone": "pvt_v2_b0"}, tmp_path / "model.pt")
    assert (found.image_size, found.certainty, found.backbone) == ((64, 96), 0.8, "pvt_v2_b0")
    assert (found.classes, found.threshold, found.in_channels) == (("background", "lesion"), 0.5, 3)
    assert (found.mean, found.std) == (RGB["mean"], RGB["std"])
    assert found.weights_sha256 == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert Description.from_json(found.to_json()) == found
    several = describe({"out_channels": 3})
    assert (several.threshold, several.classes) == (None, ("background", "lesion", "class 2"))


@pytest.mark.parametrize("source", [(40, 30), (64, 48), (200, 131), (1, 7)])
@pytest.mark.parametrize("target", [(64, 48), (33, 250), (5, 1)])
def test_resize_is_that_of_torch(source, target):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, target, mode="bilinear")[0].permute(1, 2, 0).numpy()
    # Values reach 255: torch rounds its coordinates to float32, and how depends on the processor
    np.testing.assert_allclose(runtime_images.resize(image, target), expected, atol=5e-3)
    region = (slice(1, 4), slice(0, 1))
    np.testing.assert_allclose(runtime_images.resize(image, target, region), expected[region], atol=5e-3)


@pytest.mark.parametrize("seed", range(12))
def test_hysteresis_is_that_of_the_package(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2))
    probability = (rng.random(shape) ** rng.choice([0.5, 1, 2])).astype(np.float32)
    expected = HysteresisThresholdd("pred", high=0.97)({"pred": torch.from_numpy(probability)[None]})["pred"][0]
    np.testing.assert_array_equal(masks.hysteresis(probability, 0.5, 0.97), expected.numpy() > 0)


def test_hysteresis_of_a_spiral_and_of_corners():
    """One component that winds through all rows, and one that holds together by corners alone."""
    spiral = np.zeros((9, 9), dtype=np.float32)
    spiral[0, :] = spiral[:, 8] = spiral[8, :] = spiral[2:, 0] = spiral[2, :7] = spiral[2:7, 6] = spiral[6, 2:7] = 0.6
    spiral[6, 2] = 0.9  # its inner end
    np.testing.assert_array_equal(masks.hysteresis(spiral, 0.5, 0.9), spiral > 0.5)
    spiral[6, 2] = 0.8
    assert not masks.hysteresis(spiral, 0.5, 0.9).any()
    diagonal = np.eye(5, dtype=np.float32)[:, ::-1] * 0.6
    diagonal[0, 4] = 1
    np.testing.assert_array_equal(masks.hysteresis(diagonal, 0.5, 0.9), diagonal > 0)


def test_images_are_read_as_the_package_reads_them(every_mode):
    for path in every_mode.iterdir():
        with Image.open(path) as opened:
            np.testing.assert_array_equal(runtime_images.read_image(path), np.asarray(to_rgb(opened)))


def test_images_are_listed_as_the_package_lists_them(every_mode, tmp_path):
    assert (runtime_images.IMAGE_ENDINGS, runtime_images.MASK_SUFFIXES) == (IMAGE_ENDINGS, layouts.MASK_SUFFIXES)
    assert runtime_images.IMAGE_FOLDERS == layouts.IMAGE_NAMES
    draw_pair(tmp_path / "two", "a", 20, 16)
    beside = tmp_path / "beside"
    beside.mkdir()
    for name in ("a.jpg", "a_mask.png", "b_seg.png", "b_seg_mask.png", ".hidden.png"):
        Image.new("RGB", (4, 4)).save(beside / name)
    partly = tmp_path / "partly"
    partly.mkdir()
    for name in ("a.jpg", "a_mask.png", "c.png"):
        Image.new("RGB", (4, 4)).save(partly / name)
    for folder in (every_mode, tmp_path / "two", beside, partly):
        expected = [item["image"] for item in list_images(str(folder))]
        assert [str(path) for path in runtime_images.list_images(folder)] == expected, folder


def test_table_and_overlay_by_hand(tmp_path):
    """A square of 20 x 10 pixels at the network's size, where nothing is interpolated."""
    image = np.full((48, 64, 3), 40, dtype=np.uint8)
    image[5:15, 30:50] = 168  # logit 2, probability 0.8808
    Image.fromarray(image).save(tmp_path / "a.png")
    model = write_bright(tmp_path / "model.xml", description((48, 64)))
    segment(model, tmp_path / "a.png", "--output_dir", tmp_path / "out", "--opacity", "0.5")
    (row,) = read_table(tmp_path / "out" / "images.csv")
    assert float(row.pop("ms")) > 0
    assert row == {
        "file": "a.png", "lesion": "1", "area": "0.065104", "probability": "0.8808",
        "left": "30", "top": "5", "width": "20", "height": "10",
    }  # fmt: skip
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as opened:
        overlay = np.asarray(opened).astype(int)
    assert np.abs(overlay[10, 40] - (211, 189, 104)).max() < 12  # half of (255, 210, 40)
    assert np.abs(overlay[40, 10] - 40).max() < 6


def test_broken_files_are_listed_and_the_rest_is_done(every_mode, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        blobs(40, 30, index).save(folder / f"case_{index}.png")
    (folder / "cut.png").write_bytes((folder / "case_0.png").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    model = write_bright(tmp_path / "model.xml", description())
    with pytest.raises(SystemExit) as info:
        segment(model, folder, "--output_dir", tmp_path / "out")
    lines = str(info.value).splitlines()
    assert lines[0] == "error: 2 files could not be read, the others are done:"
    assert [Path(line.strip().split(": ")[0]).name for line in lines[1:]] == ["cut.png", "empty.png"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"case_{i}.png" for i in range(3)]
    assert [row["file"] for row in read_table(tmp_path / "out" / "images.csv")] == [f"case_{i}.png" for i in range(3)]


def test_a_run_that_is_closed_early_gives_its_requests_back(tmp_path):
    network = Network(write_bright(tmp_path / "model.xml", description()))
    count = len(network.requests)
    frame = Frame("a", np.asarray(blobs(40, 30, 0)))
    for taken in range(1, 4):
        found = network.run(frame for _ in iter(int, 1))
        for _ in range(taken):
            next(found)
        found.close()
        assert len(network.requests) == count
    assert len(list(network.run([frame] * (count + 3)))) == count + 3


def test_full_disk(tmp_path, monkeypatch):
    blobs(40, 30, 0).save(tmp_path / "a.png")
    model = write_bright(tmp_path / "model.xml", description())

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SystemExit, match=r"a\.png cannot be written \(No space left on device\)"):
        segment(model, tmp_path / "a.png", "--output_dir", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize(("capabilities", "warned"), [(["FP32", "INT8"], True), (["FP32", "BF16"], False)])
def test_precision_that_the_processor_has_not(capabilities, warned, tmp_path, monkeypatch, capsys, caplog):
    model = write_bright(tmp_path / "model.xml", description())
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: capabilities)
    Network(model, "bf16")
    assert ("no bfloat16" in capsys.readouterr().err) == warned
    OpenVINONetwork(str(model), "bf16")
    assert ("no bfloat16" in caplog.text) == warned
    caplog.clear()
    Network(model)
    OpenVINONetwork(str(model))
    assert "bfloat16" not in capsys.readouterr().err + caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "does not say how images are prepared for it"),
        ({"in_channels": 1}, "takes 1 channels, but images are RGB"),
    ],
)
def test_unusable_models(change, message, tmp_path):
    blobs(40, 30, 0).save(tmp_path / "a.png")
    model = write_bright(tmp_path / "model.xml", description(**change) if change else None)
    with pytest.raises(SystemExit, match=message):
        segment(model, tmp_path / "a.png", "--output_dir", tmp_path / "out")


def test_refused_inputs(tmp_path):
    model = write_bright(tmp_path / "model.xml", description())
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / os.fsdecode(b"bad\xff.png")).touch()
    for name in ("b.mp4", "images.mp4", "camera0.mp4"):
        (tmp_path / name).touch()
    for name in ("a.png", "a.bmp"):
        blobs(40, 30, 0).save(tmp_path / name)
    for name in ("no.xml", "no.bin", "lonely.xml", "weights.pt"):
        (tmp_path / name).write_text("no model")
    for arguments, message in [
        ([model, tmp_path / "absent.png", "--output_dir", tmp_path / "o"], "does not exist"),
        ([model, tmp_path / "empty", "--output_dir", tmp_path / "o"], "holds no image"),
        ([model, tmp_path, "--output_dir", tmp_path / "o"], "same name as"),
        ([model, tmp_path / "a.png", "--output_dir", tmp_path], r"holds a\.png: outputs would overwrite inputs"),
        ([model, tmp_path / "b.mp4", "--output_dir", tmp_path], r"holds b\.mp4: outputs would overwrite inputs"),
        ([model, tmp_path / "a.png", tmp_path / "images.mp4", "--output_dir", tmp_path / "o"], "overwrite images.csv"),
        ([model, tmp_path / "camera0.mp4", "camera:0", "--output_dir", tmp_path / "o"], "camera0: same name as"),
        ([model, tmp_path / "folder", "--output_dir", tmp_path / "o"], r"bad\\udcff\.png' is not in UTF-8"),
        ([tmp_path / "absent.xml", tmp_path / "a.png", "--output_dir", tmp_path / "o"], "no exported network at"),
        ([tmp_path / "no.xml", tmp_path / "a.png", "--output_dir", tmp_path / "o"], "cannot be read as ONNX"),
        ([tmp_path / "lonely.xml", tmp_path / "a.png", "--output_dir", tmp_path / "o"], "lonely.bin, are missing"),
        ([tmp_path / "weights.pt", tmp_path / "a.png", "--output_dir", tmp_path / "o"], "PyTorch weights: export them"),
        ([model, tmp_path / "a.png", "--output_dir", tmp_path / "o", "--smoothing", 1], "--smoothing 1"),
        ([model, tmp_path / "a.png", "--output_dir", tmp_path / "o", "--presence", 0.2, 0.5], "ON must not be below"),
    ]:
        with pytest.raises(SystemExit, match=message):
            segment(*arguments)
    assert not (tmp_path / "o").exists()


def test_an_unfinished_environment_is_not_started_again_and_again(tmp_path, monkeypatch):
    command, started = script("segment"), []
    monkeypatch.setattr(command, "RUNTIME_PYTHON", tmp_path / "bin" / "python")
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(command.os, "execv", lambda *arguments: started.append(arguments))
    with pytest.raises(SystemExit, match="Run: make runtime-env"):
        command.use_runtime_environment()  # there is none
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    command.use_runtime_environment()
    assert len(started) == 1
    monkeypatch.setattr(command.sys, "prefix", str(tmp_path))
    with pytest.raises(SystemExit, match="Run: make runtime-env"):
        command.use_runtime_environment()
    assert len(started) == 1


def test_iterators_run_ahead_in_order_and_end():
    assert list(ahead(range(100), 3)) == list(range(100))

    def failing():
        yield from range(5)
        raise InputError("here")

    found = ahead(failing(), 2)
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(InputError, match="here"):
        next(found)
    taken = []
    endless = ahead((taken.append(index) or index for index in iter(int, 1)), 3)
    assert [next(endless) for _ in range(5)] == [0] * 5
    endless.close()
    assert len(taken) < 12


def test_neither_torch_nor_monai_is_imported(tmp_path):
    blobs(40, 30, 0).save(tmp_path / "a.png")
    model = write_bright(tmp_path / "model.xml", description())
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import segment\n"
        f"segment.main([{str(model)!r}, {str(tmp_path / 'a.png')!r}, '--output_dir', {str(tmp_path / 'out')!r}])\n"
        "print(sorted({'torch', 'monai', 'scipy', 'av'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
