# SPDX-License-Identifier: Apache-2.0
"""scripts/make_demo_data.py: the same seed gives the same images, masks fit them, and the video has its frames."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from common.demo_images import frames
from PIL import Image

from unetv2_monai import InputError

from ..conftest import script


def make(*arguments: object) -> None:
    script("make_demo_data").main([str(argument) for argument in arguments])


def test_images_have_masks_and_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, "--train", 3, "--test", 2, "--seed", seed)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 10
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert any((tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes() for name in names)
    for path in (tmp_path / "a").glob("*/images/*"):
        with Image.open(path) as image, Image.open(path.parents[1] / "masks" / f"{path.stem}.png") as mask:
            assert image.size == mask.size
            assert {*np.unique(np.asarray(mask))} <= {0, 255}
    assert not list(tmp_path.rglob("*.mp4"))


def test_frames_move_a_little_and_depend_on_the_seed_alone():
    one, other = list(frames(3, seed=4)), list(frames(3, seed=4))
    assert [frame.shape for frame in one] == [(720, 1280, 3)] * 3
    for frame, same in zip(one, other):
        np.testing.assert_array_equal(frame, same)
    difference = np.abs(one[2].astype(int) - one[1]).mean()
    assert 2 < difference < 8 < np.abs(one[2].astype(int) - one[2][::-1]).mean()


def test_the_video(tmp_path):
    av = pytest.importorskip("av")
    make(tmp_path, "--train", 0, "--test", 0, "--video", 7)
    with av.open(str(tmp_path / "video.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    assert len(decoded) == 7
    for found, drawn in zip(decoded, frames(7)):
        assert np.abs(found.astype(int) - drawn).mean() < 4


def test_a_video_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("runtime.video", "av.video"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(InputError, match="--video takes PyAV"):
        make(tmp_path, "--train", 0, "--test", 1, "--video")
    assert len(list(tmp_path.rglob("test_000.png"))) == 2
