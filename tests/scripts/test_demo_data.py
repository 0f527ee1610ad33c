# SPDX-License-Identifier: Apache-2.0
"""scripts/make_demo_data.py: the same seed gives the same images, and masks fit them."""

import numpy as np
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
