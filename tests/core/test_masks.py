# SPDX-License-Identifier: Apache-2.0
"""Masks: every documented form gives its classes, and all others are refused with the values found."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, TiffImagePlugin

from unetv2_monai import InputError, to_mask, to_rgb

LESION = np.zeros((96, 96), np.uint8)
LESION[30:70, 20:60] = 1
RING = np.zeros_like(LESION)  # a void ring around the lesion
RING[27:73, 17:63] = 255
RING[30:70, 20:60] = 1
CLASSES = LESION + np.roll(LESION, 45, 1) * (1 - LESION) * 2
BLACK, WHITE, RED, GREEN, VOID = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 128, 0), (224, 224, 192)
FLOAT = LESION.astype(np.float32)
WIDE = LESION.astype(np.uint16)
ALPHA = np.dstack([np.full((*LESION.shape, 3), 255, np.uint8), LESION * 255])


def saved(values, format: str = "PNG", mode: str | None = None, **options) -> Image.Image:
    """An image of these values, written and opened again."""
    image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return Image.open(buffer)


def palette(entries, *colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(np.asarray(entries, np.uint8))
    image.putpalette([value for color in colors for value in color])
    return image


def disc(region: int = 0) -> Image.Image:
    """A white disc, and a square of another value far from it."""
    drawn = Image.new("L", (400, 400))
    ImageDraw.Draw(drawn).ellipse((90, 120, 290, 300), fill=255)
    ImageDraw.Draw(drawn).rectangle((320, 320, 380, 380), fill=region)
    return drawn


@pytest.mark.parametrize(
    ("mask", "truth"),
    [
        *((LESION * value, LESION * (value > 0)) for value in (1, 255, 0)),
        (LESION * 0 + 1, LESION * 0 + 1),
        *((Image.fromarray(LESION * 255).convert(mode), LESION) for mode in ("1", "RGBA")),
        *((WIDE * value, LESION) for value in (65535, 255)),
        *((palette(LESION, BLACK, color), LESION) for color in (RED, WHITE)),
        (palette(1 - LESION, WHITE, BLACK), LESION),  # as a program may store 0/255 in less space
        (palette(LESION * 5, BLACK, RED, RED, RED, RED, WHITE), LESION),
    ],
)
def test_forms_of_one_structure(mask, truth):
    np.testing.assert_array_equal(np.asarray(to_mask(saved(mask))), truth)


def test_numbers_of_tiff():
    for values in (FLOAT, FLOAT * 255, LESION.astype(np.int32)):
        np.testing.assert_array_equal(np.asarray(to_mask(saved(values, "TIFF"))), LESION)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # white is zero, which Pillow inverts of 8 bits but not of 16
    stored = saved((1 - WIDE) * 65535, "TIFF", tiffinfo=tags)
    assert stored.tag_v2[262] == 0
    np.testing.assert_array_equal(np.asarray(to_mask(stored)), LESION)
    np.testing.assert_array_equal(np.asarray(to_rgb(stored))[..., 1], LESION * 255)


def test_lossy_and_smoothed_outlines_are_cut_at_half():
    drawn = disc()
    truth = np.asarray(drawn) > 127
    for quality in (30, 60, 95):
        for mode in ("L", "RGB"):
            lossy = saved(drawn, "JPEG", mode, quality=quality)
            assert len(np.unique(np.asarray(lossy))) > 3
            assert np.count_nonzero((np.asarray(to_mask(lossy)) > 0) != truth) < 10
    small = np.asarray(drawn.resize((100, 100), Image.Resampling.BOX))
    for values in (small, small.astype(np.uint16) * 257):
        np.testing.assert_array_equal(np.asarray(to_mask(saved(values))), small > 127)


@pytest.mark.parametrize(
    ("mask", "format", "message"),
    [
        (RING, "PNG", "mask values 0, 1, 255, but"),
        (LESION, "JPEG", "mask values 0, 1.*JPEG changes values: save it as PNG"),
        (LESION * 20, "JPEG", "JPEG changes values"),
        (disc(20), "PNG", "mask values 0, 20, 255"),
        (disc(20), "JPEG", "different"),
        (disc(230), "JPEG", "different"),
        (disc().filter(ImageFilter.GaussianBlur(20)), "PNG", "different"),
        (LESION * 230, "PNG", "mask values 0, 230"),
        (LESION * 128, "PNG", "mask values 0, 128"),
        (RING // 2, "PNG", "mask values 0, 127"),
        (CLASSES, "PNG", "mask values 0, 1, 2, but .* set out_channels"),
        (ALPHA, "PNG", "transparency"),
        (ALPHA - ALPHA[..., :1] * [1, 1, 1, 0], "PNG", "transparency"),
        (Image.merge("LA", [Image.fromarray(band) for band in (LESION * 0, LESION * 255)]), "PNG", "transparency"),
        (np.dstack([LESION, LESION * 0, LESION * 0]), "PNG", r"in colours, \(1, 0, 0\)\. .*mask_colors"),
        (WIDE * 300, "PNG", "mask values 0, 300"),
        (CLASSES * np.uint16(500), "PNG", "mask values 0, 500, 1000"),
        (FLOAT * 0.7, "TIFF", "mask values 0, 0.7, which are no integers"),
        (FLOAT * 0.999999, "TIFF", "no integers"),
        (FLOAT * np.nan, "TIFF", "no integers"),
        (LESION.astype(np.int32) * -1, "TIFF", "mask values -1, 0"),
        (palette(LESION, RED, BLACK), "PNG", r"palette entries 0 \(128, 0, 0\), 1 \(0, 0, 0\)"),
        (palette(LESION * 2, BLACK, GREEN, RED), "PNG", "palette entries"),
        (Image.fromarray(LESION * 255).convert("CMYK"), "TIFF", "in CMYK"),
    ],
)
def test_other_values_of_one_structure_are_refused(mask, format, message):
    mask = mask if isinstance(mask, Image.Image) or mask.dtype != np.int64 else mask.astype(np.uint8)
    with pytest.raises(InputError, match=message):
        to_mask(saved(mask, format))


@pytest.mark.parametrize(
    "mask",
    [
        *(saved(CLASSES), saved(CLASSES, mode="RGB"), saved(CLASSES.astype(np.uint16))),
        *(saved(CLASSES.astype(np.float32), "TIFF"), saved(palette(CLASSES, BLACK, RED, GREEN))),
    ],
)
def test_forms_of_several_classes(mask):
    np.testing.assert_array_equal(np.asarray(to_mask(mask, out_channels=3)), CLASSES)
    one_bit = saved(Image.fromarray(LESION * 255).convert("1"))
    np.testing.assert_array_equal(np.asarray(to_mask(one_bit, out_channels=2)), LESION)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (saved(CLASSES * 2), "mask values 0, 2, 4, but with out_channels 3 only 0 to 2 are classes"),
        (saved(CLASSES.astype(np.int32) - 1, "TIFF"), "mask values -1, 0, 1, but"),
        (saved(CLASSES, "JPEG"), "JPEG changes class indices"),
        (saved(np.dstack([CLASSES, CLASSES * 0, CLASSES * 0])), "in colours"),
        (saved(palette(CLASSES, (0, 0, 0), (2, 2, 2), (1, 1, 1))), "the numbers or the greys"),
    ],
)
def test_other_values_of_several_classes_are_refused(mask, message):
    with pytest.raises(InputError, match=message):
        to_mask(mask, out_channels=3)


def test_colors_by_a_table():
    colored = np.array([BLACK, RED, GREEN], np.uint8)[CLASSES]
    colored[:3] = VOID
    table = {"black": 0, "#800000": 1, "0,128,0": 2, "224,224,192": 0}
    np.testing.assert_array_equal(np.asarray(to_mask(saved(colored), 3, table)), CLASSES)
    mixed = saved(palette(CLASSES, BLACK, GREEN, RED))  # of which the order of entries says nothing
    np.testing.assert_array_equal(np.asarray(to_mask(mixed, 3, table)), np.array([0, 2, 1])[CLASSES])
    for wrong, message in (
        ({"black": 0, "#800000": 1}, r"colours \(0, 128, 0\), \(224, 224, 192\) are not in mask_colors"),
        ({**table, "0,128,0": 3}, "0,128,0 is class 3, but classes are 0 to 2"),
        ({"blakc": 0}, "'blakc' is no colour"),
    ):
        with pytest.raises(InputError, match=message):
            to_mask(saved(colored), 3, wrong)


@pytest.mark.parametrize("format", ["TIFF", "GIF", "WEBP"])
def test_several_pages_are_refused(format):
    pages = saved(Image.fromarray(LESION * 255), format, save_all=True, append_images=[Image.fromarray(LESION * 0)])
    for read in (to_mask, to_rgb):
        with pytest.raises(InputError, match="holds 2 pages or frames"):
            read(pages)


def test_the_second_picture_of_a_phone_is_left():
    photo = Image.fromarray(np.full((16, 16, 3), 100, np.uint8))
    stored = saved(photo, "MPO", save_all=True, append_images=[photo])
    assert stored.n_frames == 2
    assert np.asarray(to_rgb(stored)).shape == (16, 16, 3)
