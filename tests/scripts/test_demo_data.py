# SPDX-License-Identifier: Apache-2.0
"""scripts/make_demo_data.py: the same seed gives the same images, masks fit them, and the video has its frames."""

import numpy as np
import pytest
from PIL import Image

from ..conftest import script


def make(*arguments: object) -> None:
    script("make_demo_data").main([str(argument) for argument in arguments])


def test_images_have_masks_and_depend_on_the_seed_alone(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2)):
        make(folder, "--train", 3, "--test", 6, "--seed", seed)
    first, same, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} for folder in folders
    )
    assert len(first) == 18
    assert first == same != other
    assert first.keys() == other.keys()
    for path in (tmp_path / "a").glob("*/images/*"):
        with Image.open(path) as image, Image.open(path.parents[1] / "masks" / f"{path.stem}.png") as mask:
            assert image.size == mask.size
            assert {*np.unique(np.asarray(mask))} <= ({0} if path.stem == "test_005" else {0, 255})


def test_frames_move_a_little_and_the_video_has_them(tmp_path):
    av = pytest.importorskip("av")
    drawn = list(script("make_demo_data").frames(4))
    assert [frame.shape for frame in drawn] == [(720, 1280, 3)] * 4
    difference = np.abs(drawn[2].astype(int) - drawn[1]).mean()
    assert 2 < difference < 8 < np.abs(drawn[2].astype(int) - drawn[2][::-1]).mean()

    make(tmp_path, "--train", 0, "--test", 0, "--video", 4)
    with av.open(str(tmp_path / "video.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    assert len(decoded) == 4
    for found, frame in zip(decoded, drawn):
        assert np.abs(found.astype(int) - frame).mean() < 4
