# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, load_datalist
from unetv2_monai.data.checks import check_each, check_pair, image_size, list_problems, mask_size


def volume(path: Path, *shape: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)
    return str(path)


def test_sizes(tmp_path):
    Image.new("RGBA", (8, 5)).save(tmp_path / "a.png")
    assert image_size(str(tmp_path / "a.png"), in_channels=3) == (8, 5)
    assert mask_size(str(tmp_path / "a.png")) == (8, 5)
    for shape in ((5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 2)):
        assert image_size(volume(tmp_path / "a.nii.gz", *shape)) == (5, 6, 7)
    assert mask_size(volume(tmp_path / "b.nii.gz", 5, 6, 7, 1)) == (5, 6, 7)
    assert mask_size(volume(tmp_path / "b.nii.gz", 5, 6, 7, 2)) == (5, 6, 7, 2)


VOLUMES = (
    "holds 1 channel, but the network takes 3. Add recipes/volumes.yaml, for inference recipes/volumes_inference.yaml, "
    "or set --in_channels 1."
)


@pytest.mark.parametrize(
    ("shape", "in_channels", "sentence"),
    [
        ((5, 6, 7, 2), 1, "holds 2 channels, but the network takes 1. Extract one, or set --in_channels 2."),
        ((5, 6, 7, 4), 2, "holds 4 channels, but the network takes 2. Extract 2, or set --in_channels 4."),
        ((5, 6, 7), 3, VOLUMES),
        ((5, 6, 7, 1), 3, VOLUMES),
        ((5, 6, 7), 2, "holds 1 channel, but the network takes 2. Set --in_channels 1."),
    ],
)
def test_channels(tmp_path, shape, in_channels, sentence):
    path = volume(tmp_path / "a.nii.gz", *shape)
    with pytest.raises(InputError) as error:
        image_size(path, in_channels)
    assert str(error.value) == f"{path}: {sentence}"


def test_pairs_of_volumes_with_channels(tmp_path):
    item = {"image": volume(tmp_path / "a.nii", 5, 6, 7, 2), "label": volume(tmp_path / "b.nii", 5, 6, 7)}
    check_pair(item)
    check_pair(item, in_channels=2)
    with pytest.raises(InputError, match="holds 2 channels, but the network takes 1"):
        check_pair(item, in_channels=1)
    volume(tmp_path / "b.nii", 5, 6, 7, 1)
    check_pair(item)
    volume(tmp_path / "b.nii", 5, 6, 7, 2)
    with pytest.raises(InputError, match=r"b\.nii: mask of 5 x 6 x 7 x 2, but a\.nii is 5 x 6 x 7"):
        check_pair(item)
    volume(tmp_path / "b.nii", 5, 7, 6)
    with pytest.raises(InputError, match=r"b\.nii: mask of 5 x 7 x 6, but a\.nii is 5 x 6 x 7"):
        check_pair(item)


def test_a_data_set_with_channels(tmp_path):
    for name in "ab":
        volume(tmp_path / "imagesTr" / f"{name}.nii.gz", 5, 6, 7, 2)
        volume(tmp_path / "labelsTr" / f"{name}.nii.gz", 5, 6, 7, 1)
    assert len(load_datalist(str(tmp_path), ["test"])["test"]) == 2
    assert len(load_datalist(str(tmp_path), ["test"], in_channels=2)["test"]) == 2
    with pytest.raises(InputError, match=r"(?s)2 problems.*Extract one, or set --in_channels 2\."):
        load_datalist(str(tmp_path), ["test"], in_channels=1)
    assert len(load_datalist(str(tmp_path), ["test"], check=False, in_channels=1)["test"]) == 2


def test_only_input_errors_are_caught():
    def check(item):
        raise InputError(item["image"]) if item["image"] == "a" else KeyError("of the check itself")

    assert check_each([{"image": "a"}], check) == ["a"]
    with pytest.raises(KeyError):
        check_each([{"image": "a"}, {"image": "b"}], check)


def test_long_lists_of_problems_are_cut():
    message = list_problems(Path("data"), [f"{index}.png: cannot be read" for index in range(203)])
    assert message.startswith("203 problems in data:\n  0.png: cannot be read\n  1.png")
    assert message.endswith("199.png: cannot be read\n  ... and 3 more\nFix or remove these files.")


def test_images_have_three_channels(pairs):
    with pytest.raises(
        InputError, match=r"images are converted to RGB, but the network takes 1 channel\. Remove .* if"
    ):
        load_datalist(str(pairs), ["training"], in_channels=1)
    assert load_datalist(str(pairs), ["training"], in_channels=3)["training"]
