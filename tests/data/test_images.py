# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, to_mask, to_rgb

GREY = np.array([[0, 100, 255]], np.uint8)


def reopened(image: Image.Image, format: str, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("RGBA"),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
    ],
    ids=["grey", "RGBA", "palette", "grey with alpha", "16 bits"],
)
def test_any_mode_becomes_rgb(image):
    image = to_rgb(image)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.repeat(GREY[..., None], 3, axis=2))


def test_transparency_is_dropped_not_blended():
    rgba = np.array([[[10, 20, 30, 0]]], np.uint8)
    assert np.asarray(to_rgb(Image.fromarray(rgba))).tolist() == [[[10, 20, 30]]]


def test_exif_orientation_is_applied_to_images_and_masks():
    values = np.array([[0, 255], [0, 0], [0, 0]], np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright
    turned = reopened(Image.fromarray(values), "PNG", exif=exif)
    upright = np.rot90(values, -1)
    np.testing.assert_array_equal(np.asarray(to_rgb(turned))[..., 0], upright)
    np.testing.assert_array_equal(np.asarray(to_mask(turned)), upright // 255)


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 255, 255], [1, 254, 255]])
def test_one_class_accepts_0_1_and_0_255(values):
    mask = to_mask(Image.fromarray(np.array([values], np.uint8)))
    assert np.asarray(mask).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("values", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)])
def test_empty_masks_stay_empty(values):
    assert not np.asarray(to_mask(Image.fromarray(values))).any()


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ([0, 0, 0, 128, 0, 0], [[0, 1, 1]]),  # VOC's
        ([0, 0, 0, 255, 255, 255], [[0, 1, 1]]),
        ([255, 255, 255, 0, 0, 0], [[1, 0, 0]]),  # as a saved 0/255 mask may be, to make the file small
    ],
)
def test_palettes_of_one_class(palette, expected):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putdata([0, 1, 1])
    image.putpalette(palette)
    assert np.asarray(to_mask(reopened(image, "PNG"))).tolist() == expected


def test_full_mask_of_ones():
    assert np.asarray(to_mask(Image.fromarray(np.ones((4, 4), np.uint8)))).all()


def test_jpeg_noise_is_cut_at_half():
    truth = np.zeros((64, 64), np.uint8)
    truth[13:47, 9:51] = 255
    lossy = reopened(Image.fromarray(np.stack([truth] * 3, axis=2)), "JPEG", quality=60)
    assert len(np.unique(np.asarray(lossy))) > 2
    np.testing.assert_array_equal(np.asarray(to_mask(lossy)), truth // 255)


@pytest.mark.parametrize("values", [[0, 127, 0], [0, 1, 2], [0, 127, 255], [0, 2, 0]])
def test_one_class_refuses_other_values(values):
    with pytest.raises(InputError, match=rf"mask values {', '.join(map(str, sorted(set(values))))}.*--out_channels"):
        to_mask(Image.fromarray(np.array([values], np.uint8)))


def test_a_small_grey_region_is_not_taken_for_noise():
    values = np.zeros((200, 200), np.uint8)
    values[50:90, 50:90] = 255
    values[100:110, 100:110] = 128  # 0.25 % of the pixels
    with pytest.raises(InputError, match="mask values 0, 128, 255"):
        to_mask(Image.fromarray(values))


def test_classes_from_grey_values_and_palettes():
    values = np.array([[0, 1, 2]], np.uint8)
    palette = Image.fromarray(values, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for mask in (Image.fromarray(values), palette):
        assert np.asarray(to_mask(mask, out_channels=3)).tolist() == [[0, 1, 2]]


def test_more_classes_than_channels():
    with pytest.raises(InputError, match=r"mask values 0, 3.*out_channels 3 only 0 to 2"):
        to_mask(Image.fromarray(np.array([[0, 3]], np.uint8)), out_channels=3)
