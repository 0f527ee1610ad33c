# SPDX-License-Identifier: Apache-2.0
"""Inference as a service: folders with broken files, runs that go on, images far above the training size."""

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

from ..conftest import ROOT, draw_pair, draw_pairs
from ..data.folders import write_volume
from ..support.workflow import CONFIGS, INFERENCE, TINY, TRAIN, command, overlays, run, workflow
from .test_volume_geometry import ONE_LAYER, SLABS

BRIGHT = {"network_def": {"_target_": "tests.support.networks.Bright"}, "handlers": []}
SLIDING = overlays("options/sliding")


def plant_broken(folder: Path, whole: Path) -> list[str]:
    """Five kinds of files that are no images, beside ``whole``; their names."""
    content = whole.read_bytes()
    head = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    broken = {
        "cut.png": content[: len(content) // 2],
        "empty.png": b"",
        "text.jpg": b"not an image",
        "flipped.png": content[:60] + bytes(255 - byte for byte in content[60:90]) + content[90:],
        "bomb.png": content[:8] + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big"),  # 10 gigapixels
    }
    for name, data in broken.items():
        (folder / name).write_bytes(data)
    return sorted(broken)


def test_broken_files_are_listed_and_the_rest_is_done(tmp_path):
    draw_pairs(tmp_path, 4)
    images, masks = tmp_path / "images", tmp_path / "out"
    names = plant_broken(images, images / "case_0.png")
    options = {"dataset_dir": images, "output_dir": masks, "image_size": 64, "num_workers": 0}
    python = [sys.executable, "-W", "ignore", *command(INFERENCE, "inference", **options)]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert sorted(path.name for path in masks.glob("*.png")) == [f"case_{index}.png" for index in range(4)]
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
    done = subprocess.run([*python, "--skip_finished", "true"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 masks written to" in done.stdout
    assert np.asarray(Image.open(cut)).shape == (48, 60)
    assert (masks / "case_1.png").stat().st_mtime == 1


def test_windows_agree_with_the_whole(tmp_path):
    """A network that judges each pixel alone gives the same mask through windows, at native scale."""
    draw_pair(tmp_path, "large", 330, 250)
    draw_pair(tmp_path, "small", 40, 30)
    options = {"dataset_dir": tmp_path, "output_dir": tmp_path / "out", "image_size": 64, "num_workers": 0}
    run([*INFERENCE, *SLIDING], "inference", **options, **BRIGHT)
    for name in ("large", "small"):
        mask, image = (np.asarray(Image.open(tmp_path / folder / f"{name}.png")) for folder in ("out", "images"))
        assert np.array_equal(mask > 0, image[..., 0] > 127.5)


@pytest.mark.parametrize("recipes", [[], ["recipes/recommended"]], ids=["default", "recommended"])
def test_training_on_crops(recipes, pairs, tmp_path):
    files = [*TRAIN, *overlays(*recipes), *SLIDING]
    options = {"dataset_dir": pairs, "output_dir": tmp_path, "backbone": "pvt_v2_b0", **TINY}
    flow = workflow(files, "training", max_epochs=1, **options)
    trainer, shapes = flow.parser.get_parsed_content("train#trainer"), []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: shapes.append(engine.state.output[0]["pred"].shape))
    flow.run()
    assert set(shapes) == {(1, 32, 32)}
    run([*files, str(CONFIGS / "evaluate.json")], "evaluating", **options)


# a process of its own, whose peak is not ru_maxrss: a new process inherits that from the one that started it
RUN = "import sys; from tests.support.workflow import *; run(eval(sys.argv[1]), 'inference', **eval(sys.argv[2]));"
RUN += "print(open('/proc/self/status').read())"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "limit"), [("image", 3.0), ("volume", 4.0)])
def test_memory_of_a_large_image_stays_bounded(kind, limit, tmp_path):
    """In GiB: 12 megapixels through windows, or 512 x 512 x 400 voxels through slabs, 0.4 GiB in float32, of which
    logits of three classes would be 1.2 GiB.
    """
    files, options = [*INFERENCE, *SLIDING], {"dataset_dir": f"{tmp_path}/images", "output_dir": f"{tmp_path}/out"}
    if kind == "image":
        draw_pair(tmp_path, "large", 4000, 3000)
    else:
        volume = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 400), np.int16)
        write_volume(tmp_path / "images" / "large.nii", volume, np.diag([-1.0, -1.0, 1.0, 1.0]))
        torch.save(torch.nn.Conv3d(1, 3, 1).state_dict(), tmp_path / "model.pt")
        files = [*INFERENCE, *overlays("recipes/volumes", SLABS)]
        options |= {"network_def": ONE_LAYER, "checkpoint": f"{tmp_path}/model.pt"}
    python = [sys.executable, "-W", "ignore", "-c", RUN, str(files), str({**options, "num_workers": 0})]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len([*(tmp_path / "out").iterdir()]) == 1
    (peak,) = re.findall(r"^VmHWM:\s*(\d+) kB", done.stdout, re.MULTILINE)
    print(f"peak: {int(peak) / 2**20:.2f} GiB")
    assert int(peak) / 2**20 < limit
