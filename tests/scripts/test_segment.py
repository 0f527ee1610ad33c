# SPDX-License-Identifier: Apache-2.0
"""segment.py on images: the masks of ``run inference``, tables, broken files, stopped and resumed runs."""

import fcntl
import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, OpenVINONetwork
from unetv2_monai.core.description import BIN_KEY, Description
from unetv2_monai.core.frames import Frame
from unetv2_monai.networks import options_of, read_weights, with_options

from ..conftest import ROOT, read_table, script
from ..support.exported import RGB, description, exports_onnx, write_bright
from ..support.segmenting import blobs, compare_with_bundle, draw_cases, framed, refused, segment, segment_apart
from ..support.workflow import CONFIGS, INFERENCE, cases, overlays

pytest.importorskip("openvino")

from common.exports import describe
from runtime import results, segmenting
from runtime.network import Network

OPENVINO = str(CONFIGS / "options" / "inference_openvino.yaml")
THREE = {"out_channels": 3, "classes": ("background", "polyp", "tool"), "threshold": None}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_bright(tmp_path_factory.mktemp("model") / "model.xml", description())


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
    for width, height in ((320, 200), (97, 75)):
        framed(width, height, width).save(folder / f"framed_{width}.png")
    return folder


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"image_size": (64, 48)}, {"image_size": [64, 48]}),
        ({"image_size": (64, 48), "certainty": 0.95}, {"image_size": [64, 48], "certainty": 0.95}),
        (THREE, {"image_size": [64, 64], "out_channels": 3}),
        ({"view": "endoscope", "certainty": 0.95}, {"image_size": [64, 64], "certainty": 0.95}),
        ({"view": "endoscope", **THREE}, {"image_size": [64, 64], "out_channels": 3}),
    ],
)
def test_masks_are_those_of_run_inference(changes, options, every_mode, tmp_path):
    model = write_bright(tmp_path / "model.xml", description(**changes))
    files = [*INFERENCE, OPENVINO, *(overlays("options/endoscopy") if "view" in changes else [])]
    rows = compare_with_bundle(model, every_mode, tmp_path, files, checkpoint=str(model), **options)
    assert len(rows) == 17
    assert 0.1 < np.mean([float(row["area"]) for row in rows]) < 0.9
    for row in rows if "classes" in changes else []:
        assert float(row["area polyp"]) + float(row["area tool"]) == pytest.approx(float(row["area"]), abs=2e-6)


@pytest.mark.slow
@exports_onnx
@pytest.mark.parametrize(("file", "name"), [("model.xml", "openvino"), ("model.onnx", "onnx")])
def test_shipped_weights_on_real_images(file, name, real_data, tmp_path):
    """They carry a certainty, as after `unetv2 calibrate`."""
    state, weights = read_weights(ROOT / "bundle" / "models" / "model.pt"), str(tmp_path / "model.pt")
    torch.save(with_options(state, {**options_of(state), "certainty": 0.95}), weights)
    script("export").main(["--checkpoint", weights, "--formats", name])
    images = real_data / "polyp" / "test" / "clinicdb"
    compare_with_bundle(tmp_path / file, images, tmp_path, INFERENCE, checkpoint=weights)


def test_description_is_that_of_the_configs(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    found = describe({"image_size": [64, 96], "certainty": 0.8, "backbone": "pvt_v2_b0"}, tmp_path / "model.pt")
    assert (found.image_size, found.certainty, found.backbone) == ((64, 96), 0.8, "pvt_v2_b0")
    assert (found.classes, found.threshold, found.in_channels) == (("background", "lesion"), 0.5, 3)
    assert (found.mean, found.std) == (RGB["mean"], RGB["std"])
    sha256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"  # pragma: allowlist secret
    assert found.weights_sha256 == sha256
    for text in (found.to_json(), found.to_json().replace(', "view": ""', "")):  # also of an earlier version
        assert Description.from_json(text) == found
    step = ConfigParser.load_config_file(CONFIGS / "options" / "endoscopy.yaml")["transforms#view"]
    cropped = describe({"transforms#view": step})
    assert (found.view, cropped.view) == ("", "endoscope")
    with pytest.raises(ValueError, match="its view is 'fundus', which this version does not know"):
        Description.from_json(cropped.to_json().replace("endoscope", "fundus"))
    with pytest.raises(InputError, match=r"transforms#view of inference.json is .*'margin': 10.* can state only Ident"):
        describe({"transforms#view": {**step, "margin": 10}})
    several = describe({"out_channels": 3})
    assert (several.threshold, several.classes) == (None, ("background", "lesion", "class 2"))


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


def test_broken_files_are_listed_and_the_rest_is_done(model, tmp_path):
    folder = draw_cases(tmp_path / "images", 3)
    (folder / "cut.png").write_bytes((folder / "case_0.png").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "loop.png").symlink_to("loop.png")
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(folder / "nan.tif")
    os.mkfifo(folder / "pipe.png")  # whoever opens it waits
    title, *lines = refused(model, folder, "--output_dir", tmp_path / "out")
    assert title == "error: 5 files could not be read, the others are done:"
    names = ["cut.png", "empty.png", "loop.png", "nan.tif", "pipe.png"]
    assert [Path(line.strip().split(": ")[0]).name for line in lines] == names
    done = [f"case_{index}.png" for index in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == done
    assert [row["file"] for row in read_table(tmp_path / "out" / "images.csv")] == done


def test_frames_stay_in_order_also_after_an_early_end(model):
    network, settings = Network(model), results.Settings(model, [], Path())
    images = [np.asarray(blobs(40, 30, seed)) for seed in range(3)]
    endless = (Frame(str(index), images[index % 3]) for index in itertools.count())
    found = results.results(endless, network, settings)
    assert [next(found).frame.name for _ in range(5)] == list("01234")
    found.close()
    assert int(next(endless).name) < 5 + network.threads + 3 * 5
    frames = [Frame(str(index), images[index % 3]) for index in range(network.threads + 20)]
    made = list(results.results(frames, network, settings))
    assert [result.frame for result in made] == frames
    assert all(np.array_equal(result.mask, made[index % 3].mask) for index, result in enumerate(made))
    with pytest.raises(ZeroDivisionError):  # of another thread
        list(results.results((Frame(str(1 // number), images[0]) for number in (1, 0)), network, settings))


def test_stopped_and_resumed(model, tmp_path, monkeypatch, capsys):
    """In the folder of another network's run, of which nothing remains. Names may have commas and line breaks."""
    folder, out, expected = draw_cases(tmp_path / "images", 6), tmp_path / "out", tmp_path / "expected"
    (folder / "case_0.png").rename(folder / "case_0,\nline\u2028lines.png")
    names = sorted(path.name for path in folder.iterdir())
    segment(model, folder, "--output_dir", expected)
    segment(write_bright(tmp_path / "other.xml", description(), -0.05), folder, "--output_dir", out)
    save = segmenting.save_mask

    def stop_at_three(mask, path, description):
        if path.stem == "case_3":
            raise KeyboardInterrupt
        save(mask, path, description)

    with monkeypatch.context() as patched:
        patched.setattr(segmenting, "save_mask", stop_at_three)
        assert "go on with --skip_finished" in refused(model, folder, "--output_dir", out)[0]
    assert not (out / "images.csv").exists()
    (out / "case_1.png").unlink()
    times = {out / name: (out / name).stat().st_mtime_ns for name in (names[0], "case_2.png")}
    with (out / "images_incomplete.csv").open("a") as opened:
        opened.write("case_3.png,1,0.2")  # a row that was cut off
    for written in (4, 0):
        segment(model, folder, "--output_dir", out, "--skip_finished")
        assert f"{written} masks written" in capsys.readouterr().out
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        assert [row["file"] for row in read_table(out / "images.csv")] == names
        assert not [*out.rglob("*partial*"), *out.rglob("*incomplete*")]
    assert {(out / name).read_bytes() == (expected / name).read_bytes() for name in names} == {True}
    one, other = ([{**row, "ms": ""} for row in read_table(place / "images.csv")] for place in (expected, out))
    assert one == other


def test_full_disk(model, tmp_path):
    """A limit on the size of files cuts the last write short, as a full disk does."""
    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)).save(image)
    segment(model, image, "--output_dir", tmp_path / "out")
    for kind, path in {"overlay": "overlays/a.jpg", "mask": "a.png"}.items():
        size, out = (tmp_path / "out" / path).stat().st_size - 100, tmp_path / kind
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
        done = segment_apart(model, image, "--output_dir", out, before=limit)
        assert f"{path} cannot be written (File too large)" in done.stderr
        assert [file.name for file in out.rglob("a.*")] == (["a.png"] if kind == "overlay" else [])


def test_two_runs_in_one_folder(model, tmp_path):
    folder, out = draw_cases(tmp_path / "images", 2), tmp_path / "out"
    out.mkdir()
    held = os.open(out, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert "another segment.py writes to" in refused(model, folder, "--output_dir", out)[0]
    os.close(held)
    segment(model, folder, "--output_dir", out)
    assert len(read_table(out / "images.csv")) == 2


def test_weights_of_another_export(model, tmp_path):
    path, image = write_bright(tmp_path / "model.xml", description()), draw_cases(tmp_path / "images", 1)
    sha256 = hashlib.sha256(path.with_suffix(".bin").read_bytes()).hexdigest()
    path.write_text(path.read_text().replace("<framework>", f'<framework><{BIN_KEY} value="{sha256}" />'))
    segment(path, image, "--output_dir", tmp_path / "out")
    write_bright(tmp_path / "other.xml", description(), 0.1).with_suffix(".bin").rename(tmp_path / "model.bin")
    assert "model.bin beside it is of another export" in refused(path, image, "--output_dir", tmp_path / "out")[0]
    with pytest.raises(InputError, match="of another export"):
        OpenVINONetwork(str(path))(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(("precision", "offered", "warned"), [("bf16", 0, 1), ("bf16", "BF16", 0), ("f32", 0, 0)])
def test_precision_that_the_processor_has_not(precision, offered, warned, model, monkeypatch, capsys, caplog):
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "INT8", offered])
    Network(model, precision)
    assert ("no bfloat16" in capsys.readouterr().err) == warned
    OpenVINONetwork(str(model), precision)
    assert ("no bfloat16" in caplog.text) == warned


@pytest.mark.parametrize(("arguments", "message"), cases("segment", "refused"))
def test_refused_inputs(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bright(Path("model.xml"), description())
    write_bright(Path("bare.xml"), None)
    write_bright(Path("grey.xml"), description(in_channels=1))
    for folder in ("empty", "folder"):
        Path(folder).mkdir()
    for name in ("b.mp4", "images.mp4", "camera0.mp4", os.fsdecode(b"folder/bad\xff.png")):
        Path(name).touch()
    for name in ("a.png", "a.bmp"):
        blobs(40, 30, 0).save(name)
    for name in ("no.xml", "no.bin", "lonely.xml", "weights.pt"):
        Path(name).write_text("no model")
    with pytest.raises(SystemExit, match=message):
        segment("--output_dir", "out", *arguments)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "find", "environment"),
    [("segment", "use_runtime_environment", "runtime"), ("label_server", "label_python", "label")],
)
def test_an_unfinished_environment_is_not_started_again(name, find, environment, tmp_path, monkeypatch):
    command, started, python = script(name), [], tmp_path / "venv" / "bin" / "python"
    (tmp_path / "Makefile").touch()
    monkeypatch.setattr(command, f"{environment.upper()}_PYTHON", python)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(command.os, "execv", lambda path, arguments: started.append(path))
    with pytest.raises(SystemExit, match=f"Run: make {environment}-env"):
        getattr(command, find)()  # there is none
    python.parent.mkdir(parents=True)
    python.touch()
    assert python in (getattr(command, find)(), *started)
    monkeypatch.setattr(command.sys, "prefix", str(tmp_path / "venv"))
    with pytest.raises(SystemExit, match=f"Run: make {environment}-env"):
        getattr(command, find)()


def test_neither_torch_nor_monai_is_imported(model, tmp_path):
    blobs(40, 30, 0).save(tmp_path / "a.png")
    loaded = "print(sorted({'torch', 'monai', 'scipy', 'av'} & {*sys.modules}))"
    done = segment_apart(model, tmp_path / "a.png", "--output_dir", tmp_path / "out", after=loaded)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
