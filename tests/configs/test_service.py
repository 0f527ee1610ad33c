# SPDX-License-Identifier: Apache-2.0
"""Inference as a service: folders with broken files, runs that go on, images far above the training size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ..conftest import ROOT, draw_pair
from ..support.workflow import CONFIGS, INFERENCE, TINY, TRAIN, run, workflow

BRIGHT = {"network_def": {"_target_": "tests.support.networks.Bright"}, "handlers": []}


def plant_broken(folder: Path, whole: Path) -> list[str]:
    """Five kinds of files that are no images, beside ``whole``; their names."""
    content = whole.read_bytes()
    broken = {
        "cut.png": content[: len(content) // 2],
        "empty.png": b"",
        "text.jpg": b"not an image",
        "flipped.png": content[:60] + bytes(255 - byte for byte in content[60:90]) + content[90:],
        "bomb.png": bomb(),
    }
    for name, data in broken.items():
        (folder / name).write_bytes(data)
    return sorted(broken)


def bomb() -> bytes:
    """The head of a PNG that claims 10 gigapixels."""
    head = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")


def test_broken_files_are_listed_and_the_rest_is_done(tmp_path):
    for index in range(4):
        draw_pair(tmp_path, f"case_{index}", 60, 48, seed=index)
    images, masks = tmp_path / "images", tmp_path / "out"
    names = plant_broken(images, images / "case_0.png")
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inference", "--config_file", INFERENCE[0]]
    command += ["--dataset_dir", str(images), "--output_dir", str(masks), "--image_size", "64", "--num_workers", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert sorted(path.name for path in masks.iterdir()) == [f"case_{index}.png" for index in range(4)]
    assert "4 masks written to" in done.stdout
    lines = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert lines[0] == "error: 5 files could not be read, the others are done:"
    assert sorted(Path(line.strip().split(": ")[0]).name for line in lines[1:]) == names
    assert "Traceback" not in done.stderr

    for name in names:
        (images / name).unlink()
    cut = masks / "case_2.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    os.utime(masks / "case_1.png", (1, 1))
    done = subprocess.run([*command, "--skip_finished", "true"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 masks written to" in done.stdout
    with Image.open(cut) as mask:
        assert mask.size == (60, 48)
        mask.load()
    assert (masks / "case_1.png").stat().st_mtime == 1


def test_nothing_left_to_do(tmp_path, capsys):
    draw_pair(tmp_path, "case", 60, 48)
    options = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out"), "num_workers": 0, **BRIGHT}
    for _ in range(2):
        run(INFERENCE, "inference", skip_finished=True, **options)
    printed = capsys.readouterr().out
    assert "1 masks written to" in printed
    assert "0 masks written to" in printed


def test_windows_agree_with_the_whole(tmp_path):
    """A network that judges each pixel alone gives the same mask through windows, at native scale."""
    draw_pair(tmp_path, "large", 330, 250)
    draw_pair(tmp_path, "small", 40, 30)
    overlay = str(CONFIGS / "options" / "sliding.yaml")
    options = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out"), "image_size": 64, "num_workers": 0}
    run([*INFERENCE, overlay], "inference", **options, **BRIGHT)
    for name in ("large", "small"):
        with Image.open(tmp_path / "out" / f"{name}.png") as mask, Image.open(tmp_path / "images" / f"{name}.png") as i:
            assert np.array_equal(np.asarray(mask) > 0, np.asarray(i)[..., 0] > 127.5)


def test_windows_of_the_network_equal_its_mean(tmp_path):
    """Constant logits stay what they are, however many windows overlap."""
    flow = workflow([*INFERENCE, str(CONFIGS / "options" / "sliding.yaml")], "inference", image_size=64)
    inferer = flow.parser.get_parsed_content("inferer")
    out = inferer(torch.rand(1, 3, 200, 333), lambda x: torch.full_like(x[:, :1], -1.25))
    assert torch.allclose(out, torch.full((1, 1, 200, 333), -1.25), atol=1e-6)


@pytest.mark.parametrize(
    "recipe", [[], [str(CONFIGS / "recipes" / "recommended.yaml")]], ids=["default", "recommended"]
)
def test_training_on_crops(recipe, pairs, tmp_path):
    files = [*TRAIN, *recipe, str(CONFIGS / "options" / "sliding.yaml")]
    options = {"dataset_dir": str(pairs), "output_dir": str(tmp_path), "backbone": "pvt_v2_b0", **TINY}
    flow = workflow(files, "training", max_epochs=1, **options)
    trainer, shapes = flow.parser.get_parsed_content("train#trainer"), []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: shapes.append(engine.state.output[0]["pred"].shape))
    flow.run()
    assert set(shapes) == {(1, 32, 32)}
    run([*files, str(CONFIGS / "evaluate.json")], "evaluating", **options)


@pytest.mark.slow
def test_memory_of_a_large_image_stays_bounded(tmp_path):
    """12 megapixels through windows: the peak in a process of its own stays below 3 GB."""
    draw_pair(tmp_path, "large", 4000, 3000)
    code = (
        "import sys; from tests.support.workflow import *;"
        "run([*INFERENCE, sys.argv[1]], 'inference', num_workers=0, dataset_dir=sys.argv[2],"
        "output_dir=sys.argv[2] + '/out'); print(open('/proc/self/status').read())"
    )
    overlay = str(CONFIGS / "options" / "sliding.yaml")
    command = [sys.executable, "-W", "ignore", "-c", code, overlay, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # not ru_maxrss, which a new process inherits from the one that started it
    (peak,) = re.findall(r"^VmHWM:\s*(\d+) kB", done.stdout, re.MULTILINE)
    assert int(peak) < 3e6
