# SPDX-License-Identifier: Apache-2.0
"""Masks that are certain somewhere; overlays of `run inference`: the look of segment.py, upright, only if asked for."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from unetv2_monai.core.hysteresis import hysteresis
from unetv2_monai.core.images import read_image
from unetv2_monai.core.overlay import PREDICTION_COLOR, outlined, save_overlay
from unetv2_monai.postprocessing import HysteresisThresholdd

from .data.folders import write_image
from .support.workflow import INFERENCE, overlays, run

BRIGHT = {"_target_": "tests.support.networks.Bright"}
PROBABILITY = [
    [0.95, 0.60, 0.00, 0.60, 0.00],
    [0.00, 0.00, 0.55, 0.00, 0.00],  # touches the first row at corners
    [0.00, 0.00, 0.00, 0.00, 0.70],
    [0.50, 0.00, 0.00, 0.00, 0.89],
]
ALL = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]]
LIKELY = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
CERTAIN = [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("high", "expected"),
    [(0.4, ALL), (0.5, ALL), (0.51, LIKELY), (0.89, LIKELY), (0.9, CERTAIN), (0.96, torch.zeros(4, 5).tolist())],
)
def test_components_that_are_certain_somewhere(high, expected):
    probability = MetaTensor(torch.tensor([PROBABILITY]), meta={"filename_or_obj": "frame.png"})
    found = HysteresisThresholdd("pred", high=high)({"pred": probability, "image": 1})
    assert found["image"] == 1
    assert found["pred"].dtype == torch.float32
    assert found["pred"].tolist() == [expected]
    assert found["pred"].meta["filename_or_obj"] == "frame.png"
    assert probability[0, 3, 4] == pytest.approx(0.89)  # untouched


def test_volumes_and_empty_masks():
    volume = torch.zeros(1, 3, 3, 3)
    volume[0, 0, 0, 0], volume[0, 1, 1, 1], volume[0, 2, 2, 0] = 0.6, 0.95, 0.4
    found = HysteresisThresholdd("pred")({"pred": volume})["pred"]
    assert found.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert HysteresisThresholdd("pred")({"pred": torch.zeros(1, 4, 4)})["pred"].sum() == 0
    several = torch.rand(3, 4, 4)
    assert HysteresisThresholdd("pred")({"pred": several})["pred"].equal(several)
    with pytest.raises(KeyError, match="pred"):
        HysteresisThresholdd("pred")({})


@pytest.mark.parametrize("seed", range(24))
def test_components_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2) if seed % 2 else rng.integers(1, 20, 3))
    probability = (rng.random(shape) ** rng.choice([0.5, 1, 2])).astype(np.float32)
    components = ndimage.label(probability >= 0.5, np.ones((3,) * len(shape)))[0]
    certain = np.unique(components[probability >= 0.97])
    expected = np.isin(components, certain[certain > 0])
    np.testing.assert_array_equal(hysteresis(probability, 0.5, 0.97), expected)


@pytest.mark.parametrize("wanted", [True, False])
def test_overlays_look_as_those_of_segment_py(wanted, tmp_path):
    """Of a bright L, which no flip and no turn leaves as it is; one image is grey, one is turned by its EXIF."""
    bright = np.zeros((90, 132), np.uint8)
    bright[6:60, 8:20] = bright[48:60, 8:96] = 255
    write_image(tmp_path / "images" / "grey.png", bright)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(bright).convert("RGB").save(tmp_path / "images" / "turned.jpg", quality=95, exif=exif)
    files = [*INFERENCE, *overlays(*["options/inference_overlays"] * wanted)]
    options = {"dataset_dir": tmp_path / "images", "output_dir": tmp_path / "masks", "image_size": 128}
    options |= {"network_def": BRIGHT, "handlers": [], "num_workers": 0, "skip_finished": True}
    run(files, "inference", **options)
    (tmp_path / "masks" / "overlays" / "grey.jpg").unlink(missing_ok=True)  # as if killed before it was written
    run(files, "inference", **options)
    found = sorted((tmp_path / "masks" / "overlays").glob("*"))
    assert [path.name for path in found] == (["grey.jpg", "turned.jpg"] if wanted else [])
    for path, source in zip(found, ("grey.png", "turned.jpg")):
        image, drawn = read_image(tmp_path / "images" / source), np.asarray(Image.open(path))
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{path.stem}.png")) > 0
        assert 0.1 < mask.mean() < 0.5
        expected = outlined(image, mask, PREDICTION_COLOR, 0.3)
        assert drawn.shape == expected.shape
        assert np.abs(drawn.astype(int) - expected).mean() < 3  # JPEG
        assert np.abs(expected.astype(int) - image).mean() > 3  # it is drawn on


@pytest.mark.parametrize("size", [(40, 60), (330, 310)])
def test_the_outline_is_what_an_erosion_removes(size):
    """One pixel for every 150 of the smaller side, at least one; not at the edge of the image."""
    image = np.full((*size, 3), 100, np.uint8)
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(size), 5) > 0
    found = outlined(image, mask, PREDICTION_COLOR, 0)
    inside = ndimage.binary_erosion(mask, iterations=max(1, min(size) // 150), border_value=1)
    assert 0 < inside.sum() < mask.sum()
    np.testing.assert_array_equal(found == 100, np.repeat((~mask | inside)[..., None], 3, 2))


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (1, 40), (3, 2)])
def test_masks_that_are_one_pixel_high(size, tmp_path):
    width, height = size
    values = np.random.default_rng(0).random((height, width, 3)) < 0.5
    values[..., 1:] = values[..., :1]
    (tmp_path / "images").mkdir()
    Image.fromarray(values.astype(np.uint8) * 255).save(tmp_path / "images" / "a.png")
    run(
        INFERENCE, "inference", dataset_dir=tmp_path / "images", output_dir=tmp_path / "out", network_def=BRIGHT,
        handlers=[], image_size=[height, width], num_workers=0, save_probabilities=True,
    )  # fmt: skip
    for name in ("a.png", "probabilities/a.png"):
        with Image.open(tmp_path / "out" / name) as opened:
            assert np.array_equal(np.asarray(opened) > 0, values[..., 0])


def test_overlay_of_the_longest_name(tmp_path):
    """A temporary file's name must not be longer than the name that a file system takes."""
    path = tmp_path / f"{'a' * 251}.jpg"
    save_overlay(np.zeros((4, 4, 3), np.uint8), path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
