# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import to_mask, to_rgb
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.images import read_image, resize

from ..support.workflow import refusal

GREY = np.array([[0, 100, 255]], np.uint8)
SQUARE = np.zeros((200, 200), np.uint8)
SQUARE[50:90, 50:90] = 255
WITH_GREY = SQUARE.copy()
WITH_GREY[100:110, 100:110] = 128


def reopened(image: Image.Image, format: str, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(buffer)


def palette(values: list[int], colors: list[int]) -> Image.Image:
    image = Image.fromarray(np.array([values], np.uint8), "P")
    image.putpalette(colors)
    return reopened(image, "PNG")


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
    turned = reopened(Image.fromarray(values), "PNG", exif=exif)
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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([0, 255, 255], [0, 1, 1]),
        ([1, 254, 255], [0, 1, 1]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
    ],
)
def test_one_class_accepts_0_1_and_0_255(values, expected):
    mask = np.array([values], np.uint8)
    assert np.asarray(to_mask(Image.fromarray(mask))).tolist() == [expected]
    assert np.asarray(to_mask(Image.fromarray(mask).convert("RGB"))).tolist() == [expected]


def test_palettes_of_one_class():
    voc, usual = [0, 0, 0, 128, 0, 0], [0, 0, 0, 255, 255, 255]
    inverse = [255, 255, 255, 0, 0, 0]  # as a saved 0/255 mask may be, to make the file small
    found = [np.asarray(to_mask(palette([0, 1, 1], colors))).tolist() for colors in (voc, usual, inverse)]
    assert found == [[[0, 1, 1]], [[0, 1, 1]], [[1, 0, 0]]]


@pytest.mark.parametrize("truth", [SQUARE, np.zeros_like(SQUARE)], ids=["square", "empty"])
def test_jpeg_noise_is_cut_at_half(truth):
    noise = np.random.default_rng(0).integers(0, 20, truth.shape).astype(np.uint8)
    lossy = reopened(Image.fromarray(np.maximum(truth, noise)).convert("RGB"), "JPEG", quality=60)
    assert len(np.unique(np.asarray(lossy))) > 2
    np.testing.assert_array_equal(np.asarray(to_mask(lossy)), truth // 255)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([[0, 127, 0]], "0, 127"),
        ([[0, 1, 2]], "0, 1, 2"),
        ([[0, 127, 255]], "0, 127, 255"),
        ([[0, 2, 0]], "0, 2"),
        (WITH_GREY, "0, 128, 255"),  # 0.25 % of the pixels: more than noise
        ([range(10, 20)], "10, 11, 12, 13, 14, 15, 16, 17, ... (10 different)"),
    ],
)
def test_one_class_refuses_other_values(values, shown):
    message = refusal(to_mask, Image.fromarray(np.array(values, np.uint8)))
    assert f"mask values {shown}, but" in message
    assert " out_channels" in message


def test_classes_from_grey_values_and_palettes():
    for mask in (Image.fromarray(np.array([[0, 1, 2]], np.uint8)), palette([0, 1, 2], [0, 0, 0, 255, 0, 0, 0, 255, 0])):
        assert np.asarray(to_mask(mask, out_channels=3)).tolist() == [[0, 1, 2]]
    message = refusal(to_mask, Image.fromarray(np.array([[0, 3]], np.uint8)), out_channels=3)
    assert "mask values 0, 3" in message
    assert "out_channels 3 only 0 to 2" in message
