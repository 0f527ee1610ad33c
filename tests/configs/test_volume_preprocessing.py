# SPDX-License-Identifier: Apache-2.0
"""Spacing and intensities of volumes, by the options of the recipe, against values computed by hand."""

import nibabel
import numpy as np
import pytest

from ..data.folders import write_volume
from ..support.workflow import INFERENCE, TRAIN, overlays, parsed
from .test_volume_geometry import SLABS, expected, infer

TRAINING, INFERRING = ([*base, *overlays("recipes/volumes")] for base in (TRAIN, INFERENCE))
BOTH = [(TRAINING, "validate#preprocessing"), (INFERRING, "preprocessing")]
COARSE = np.diag([1.0, 1.0, 2.0, 1.0])  # voxels of 1 x 1 x 2 mm


def transformed(files: list[str], key: str, item: dict[str, str], **options):
    parser = parsed(files, num_workers=0, **options)
    item = item if "train" in parser else {"image": item["image"]}
    transforms = parser.get_parsed_content(key)
    for transform in getattr(transforms, "transforms", transforms):
        item = transform(item)
    return item


def written(folder, affine=None, **volumes) -> dict[str, str]:
    """A file of each volume."""
    return {name: write_volume(folder / f"{name}.nii.gz", values, affine) for name, values in volumes.items()}


@pytest.fixture
def stairs(tmp_path):
    """0, 10, 20, ... from below to above; class 1 in the two upper ones of five slices."""
    values = np.broadcast_to(10.0 * np.arange(5), (3, 4, 5))
    return written(tmp_path, COARSE, image=values, label=(values > 25).astype(np.uint8))


@pytest.mark.parametrize(("files", "key"), BOTH)
@pytest.mark.parametrize(
    ("options", "values"),
    [
        # MR: 0 to 40 in steps of 10 have the mean 20 and a standard deviation of 10 times the root of 2
        ({}, np.array([-2, -1, 0, 1, 2]) / 2**0.5),
        # CT: level 15 and width 20 are 5 to 25: 15 becomes 0, and what is outside is cut
        ({"intensity": "ct", "window_level": 15, "window_width": 20}, [-1, -0.5, 0.5, 1, 1]),
        # slices 2 mm apart become slices 1 mm apart, the new ones the mean of their neighbours
        ({"intensity": "ct", "window_level": 20, "window_width": 40, "spacing": [1, 1, 1]}, np.linspace(-1, 1, 9)),
    ],
    ids=["mr", "ct", "spacing"],
)
def test_intensities_and_spacing(files, key, options, values, stairs):
    image = transformed(files, key, stairs, **options)["image"]
    assert image.shape == (1, 3, 4, len(values))
    assert image[0, 0, 0].tolist() == pytest.approx(list(values), abs=1e-5)
    assert image.pixdim.tolist() == pytest.approx(options.get("spacing", [1, 1, 2]))


def test_window_unless_one_is_set(tmp_path):
    """Soft tissue: -160 to 240 Hounsfield units."""
    item = written(tmp_path, image=np.array([-1024.0, -160, 40, 140, 240, 3000]).reshape(1, 1, 6))
    image = transformed(INFERRING, "preprocessing", item, intensity="ct")["image"]
    assert image.flatten().tolist() == pytest.approx([-1, -1, 0, 0.5, 1, 1])


def test_channels_are_standardised_apart(tmp_path):
    values = np.stack([np.arange(6.0), 1000 + np.arange(6.0)], axis=-1).reshape(1, 1, 6, 2)
    image = transformed(INFERRING, "preprocessing", written(tmp_path, image=values), in_channels=2)["image"]
    assert image[0].flatten().tolist() == pytest.approx(image[1].flatten().tolist(), abs=1e-3)


def test_spacing_of_labels(stairs):
    """Resampled with the image in training, by nearest neighbour; untouched where predictions are scored."""
    options = {"spacing": [1, 1, 1], "image_size": [2, 2, 2]}
    label = transformed(TRAINING, "transforms#cached", stairs, **options)["label"]
    assert label.shape == (1, 3, 4, 9)
    assert set(label.unique().tolist()) == {0, 1}
    assert [label[0, 0, 0, index] for index in range(0, 9, 2)] == [0, 0, 0, 1, 1]
    scored = transformed(TRAINING, "validate#preprocessing", stairs, **options)["label"]
    assert scored.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("spacing", [None, [2, 2, 2]])
def test_labels_are_trained_on_the_grid_of_their_image(spacing, tmp_path):
    """By rounding, the image alone would have one voxel more in each dimension at 2 mm."""
    values = np.zeros((24, 28, 20), np.uint8)
    values[8:16, 10:18, 6:14] = 1
    item = written(tmp_path, np.diag([1.00001, 1.00001, 1.00001, 1]), image=values.astype(np.float32))
    item |= written(tmp_path, label=values)
    both = transformed(TRAINING, "transforms#cached", item, spacing=spacing, image_size=8)
    assert both["image"].shape == both["label"].shape
    assert both["label"].sum() > 50
    assert both["image"][both["label"] == 1].mean() - both["image"][both["label"] == 0].mean() > 3


@pytest.mark.parametrize("names", [(), (SLABS,)], ids=["windows", "slabs"])
def test_predictions_return_to_the_grid_of_the_file(names, tmp_path):
    """
    Where the finer grid has the voxels of the file among its own, the label of each is that of its value, standardised
    by mean and deviation of the finer grid.
    """
    values = np.round(np.random.default_rng(0).normal(0, 50, (12, 10, 9)))
    turned = nibabel.affines.from_matvec(np.diag([-1.0, 1.0, 2.0]), (5, 6, 7))
    write_volume(tmp_path / "in" / "a.nii.gz", values, turned)
    label = nibabel.load(infer(tmp_path, *names, spacing=[1, 1, 1]) / "a.nii.gz")
    assert label.shape == values.shape
    np.testing.assert_allclose(label.affine, turned)
    finer = np.empty((12, 10, 17))
    finer[..., ::2] = values
    finer[..., 1::2] = (values[..., :-1] + values[..., 1:]) / 2
    assert (np.asarray(label.dataobj) == expected(finer)[..., ::2]).mean() > 0.999
    assert (expected(values) != expected(finer)[..., ::2]).mean() > 0.01  # so the finer grid was used
