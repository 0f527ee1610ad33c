# SPDX-License-Identifier: Apache-2.0
"""Overlays of `run inference`: the look of segment.py, upright, only if asked for."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from unetv2_monai.core.images import read_image
from unetv2_monai.core.overlay import PREDICTION_COLOR, outlined
from unetv2_monai.data import SaveOverlayd

from ..support.workflow import INFERENCE, overlays, refusal, run
from .folders import write_image

BRIGHT = {"_target_": "tests.support.networks.Bright"}


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
    run(files, "inference", network_def=BRIGHT, handlers=[], num_workers=0, **options)
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


def test_volumes_are_refused(tmp_path):
    mask = MetaTensor(torch.ones(1, 4, 4, 4), meta={"filename_or_obj": "a.nii.gz"})
    assert "not on volumes" in refusal(SaveOverlayd("pred", str(tmp_path)), {"pred": mask})


@pytest.mark.parametrize("size", [(40, 60), (330, 310)])
def test_the_outline_is_what_an_erosion_removes(size):
    """One pixel for every 150 of the smaller side, at least one; not at the edge of the image."""
    image = np.full((*size, 3), 100, np.uint8)
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(size), 5) > 0
    found = outlined(image, mask, PREDICTION_COLOR, 0)
    inside = ndimage.binary_erosion(mask, iterations=max(1, min(size) // 150), border_value=1)
    assert 0 < inside.sum() < mask.sum()
    np.testing.assert_array_equal(found == 100, np.repeat((~mask | inside)[..., None], 3, 2))
