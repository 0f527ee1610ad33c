# SPDX-License-Identifier: Apache-2.0
"""The cache on disk: the same training as from memory, shared by folds, and never an old image."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import DiskCacheDataset

from ..conftest import ROOT, draw_boxes, draw_pairs
from ..support.workflow import TINY, TRAIN, overlays, parsed, refusal, run

DISK = [*TRAIN, *overlays("options/disk_cache")]


def train(files, folder: Path, pairs: Path, **options) -> dict[str, torch.Tensor]:
    """The weights after two epochs."""
    run(files, "training", **{**TINY, "max_epochs": 2, "dataset_dir": pairs, "output_dir": folder, **options})
    return torch.load(folder / "models" / "model.pt", weights_only=True)


@pytest.mark.parametrize("names", [[], ["recipes/recommended"]])
def test_it_trains_as_from_memory(names, pairs, tmp_path):
    """Also from a second run on, which reads what the first wrote."""
    files, cache = [*TRAIN, *overlays(*names)], tmp_path / "cache"
    expected = train(files, tmp_path / "memory", pairs)
    for name in ("first", "second"):
        found = train([*files, *overlays("options/disk_cache")], tmp_path / name, pairs, cache_dir=cache)
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        assert len([*cache.glob("*.pt")]) == len([*cache.iterdir()]) == 6


def test_folds_share_it(pairs, tmp_path):
    """Each image has one file for training and one for validation."""
    files = [*DISK, *overlays("options/folds")]
    for fold in range(3):
        train(files, tmp_path / f"fold_{fold}", pairs, folds=3, fold=fold, max_epochs=1, cache_dir=tmp_path / "cache")
    assert len([*(tmp_path / "cache").iterdir()]) == 12


def test_volumes(tmp_path):
    draw_boxes(tmp_path / "data", 5, np.diag([-1.0, 1, 1, 1]))
    files = [*TRAIN, *overlays("recipes/volumes", "options/disk_cache")]
    options = {**TINY, "image_size": [16, 16, 16], "encoder#init_filters": 4, "network_def#channels": 4}
    train(files, tmp_path / "out", tmp_path / "data", **options, cache_dir=tmp_path / "cache")
    again = train(files, tmp_path / "again", tmp_path / "data", **options, cache_dir=tmp_path / "cache")
    expected = train(files[:-1], tmp_path / "memory", tmp_path / "data", **options)
    assert all(torch.equal(again[key], value) for key, value in expected.items())


def first(pairs, tmp_path, files=DISK, **options) -> dict:
    """The first training image, from the cache."""
    given = {**TINY, "check_data": False, "bundle_dir": ".", "cache_dir": str(tmp_path / "cache"), **options}
    return parsed(files, dataset_dir=str(pairs), **given).get_parsed_content("train#decoded")[0]


def test_what_changes_is_read_again(pairs, tmp_path):
    before = first(pairs, tmp_path)
    assert torch.equal(first(pairs, tmp_path)["image"], before["image"])
    assert len([*(tmp_path / "cache").iterdir()]) == 1
    path = Path(before["path"])
    state = path.stat()
    values = np.asarray(Image.open(path))
    Image.fromarray(255 - values).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copy that keeps times
    after = first(pairs, tmp_path)
    assert (before["image"] + after["image"]).abs().max() < 2.5  # around ImageNet's mean, with JPEG's loss
    assert not torch.equal(before["image"], after["image"])
    mask = Path(before["label"].meta["filename_or_obj"])
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    assert torch.equal(first(pairs, tmp_path)["label"], 1 - after["label"])
    assert first(pairs, tmp_path, image_size=[48, 32])["image"].shape == (3, 48, 32)
    files = [*DISK, *overlays("options/mask_colors")]
    swapped = first(pairs, tmp_path, files, mask_colors={"black": 1, "white": 0})  # three references away
    assert torch.equal(swapped["label"], after["label"])
    for torn in (tmp_path / "cache").iterdir():
        torn.write_bytes(torn.read_bytes()[:1000])
    assert torch.equal(first(pairs, tmp_path)["image"], after["image"])


def test_what_cannot_be_cached_is_refused(pairs, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert "cache cannot be written" in refusal(first, pairs, tmp_path)
    message = refusal(DiskCacheDataset, [], None, str(tmp_path / "other"), "transforms#cached")
    assert "takes the running config" in message


MEASURE = """
import resource, sys, time
from common.bundle import read_config
files = ["train.json", *sys.argv[4:]]
given = {"dataset_dir": sys.argv[1], "check_data": False, "max_train_images": int(sys.argv[3])}
config = read_config(files, given | ({"cache_dir": sys.argv[2]} if sys.argv[4:] else {}))
config.get_parsed_content("transforms")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, seconds = peak(), []
loader = config.get_parsed_content("train#dataloader")
for epoch in range(3):
    start = time.process_time()
    for batch in loader:
        pass
    seconds.append(time.process_time() - start)
print(peak() - before, 1000 * min(seconds) / int(sys.argv[3]))
"""


@pytest.mark.slow
def test_memory(tmp_path):
    """With -s: megabytes for each image, by the difference of two sizes, and milliseconds of the processor for each."""
    draw_pairs(tmp_path / "data", 900, width=512, height=512)
    found = {}
    for files in ([], ["options/disk_cache.yaml"]):
        words = [[sys.executable, "-c", MEASURE, str(tmp_path / "data"), str(tmp_path), n] for n in ("100", "800")]
        options = {
            "env": {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "scripts", ROOT)))},
            "text": True,
        }
        done = [subprocess.run([*one, *files], check=True, capture_output=True, **options) for one in words]
        lines = [one.stdout for one in done]
        small, large = (list(map(float, line.split()[-2:])) for line in lines)
        found[bool(files)] = (large[0] - small[0]) / 700
        print(f"{'disk' if files else 'memory'}: {found[bool(files)]:.3f} MB and {large[1]:.1f} ms an image")
    assert found[True] < found[False] / 4
