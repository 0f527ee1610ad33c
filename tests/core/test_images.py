# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import to_mask, to_rgb
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.images import read_image, resize

from .test_masks import saved

GREY = np.array([[0, 100, 255]], np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "I;16", "I"])
def test_any_mode_becomes_rgb(mode):
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    image = to_rgb({"I;16": wide, "I": wide.convert("I")}.get(mode) or Image.fromarray(GREY).convert(mode))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.repeat(GREY[..., None], 3, axis=2))
    rgba = np.array([[[10, 20, 30, 0]]], np.uint8)  # transparency is dropped, not blended
    assert np.asarray(to_rgb(Image.fromarray(rgba))).tolist() == [[[10, 20, 30]]]


def test_exif_orientation_is_applied_to_images_and_masks():
    values = np.array([[0, 255], [0, 0], [0, 0]], np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright
    turned = saved(values, exif=exif)
    upright = np.rot90(values, -1)
    np.testing.assert_array_equal(np.asarray(to_rgb(turned))[..., 0], upright)
    np.testing.assert_array_equal(np.asarray(to_mask(turned)), upright // 255)


def test_files_are_read_or_named(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 2], GREY)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(BrokenFile, match=r"cut\.png: cannot be read \("):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize("source", [(40, 30), (64, 48), (200, 131), (1, 7)])
@pytest.mark.parametrize("target", [(64, 48), (33, 250), (5, 1)])
def test_resize_is_that_of_torch(source, target):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, target, mode="bilinear")[0].permute(1, 2, 0).numpy()
    # Values reach 255: torch rounds its coordinates to float32, and how depends on the processor
    np.testing.assert_allclose(resize(image, target), expected, atol=5e-3)
    region = (slice(1, 4), slice(0, 1))
    np.testing.assert_allclose(resize(image, target, region), expected[region], atol=5e-3)
    np.testing.assert_allclose(resize(image[..., 1], target, region), expected[region][..., 1], atol=5e-3)
