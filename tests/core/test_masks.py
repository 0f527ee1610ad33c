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
    ("mask", "truth", "out_channels"),
    [
        *((saved(values), LESION, 1) for values in (LESION, LESION * 255, WIDE * 255, WIDE * 65535)),
        *((saved(values, "TIFF"), LESION, 1) for values in (FLOAT, FLOAT * 255, LESION.astype(np.int32))),
        *((saved(LESION * 255, mode=mode), LESION, 1) for mode in ("1", "RGBA")),
        *((saved(values), values, 1) for values in (LESION * 0, LESION * 0 + 1)),
        (saved(palette(LESION, BLACK, RED)), LESION, 1),
        (saved(palette(LESION, BLACK, WHITE)), LESION, 1),
        (saved(palette(1 - LESION, WHITE, BLACK)), LESION, 1),  # as a program may store 0/255 in less space
        (saved(palette(LESION * 5, BLACK, RED, RED, RED, RED, WHITE)), LESION, 1),
        (saved(LESION * 255, mode="1"), LESION, 2),
        (saved(CLASSES), CLASSES, 3),
        (saved(CLASSES, mode="RGB"), CLASSES, 3),
        (saved(CLASSES.astype(np.uint16)), CLASSES, 3),
        (saved(CLASSES.astype(np.float32), "TIFF"), CLASSES, 3),
        (saved(palette(CLASSES, BLACK, RED, GREEN)), CLASSES, 3),
    ],
)
def test_forms(mask, truth, out_channels):
    np.testing.assert_array_equal(np.asarray(to_mask(mask, out_channels)), truth)


def test_white_is_zero():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # which Pillow inverts of 8 bits but not of 16
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
    ("mask", "out_channels", "message"),
    [
        (saved(RING), 1, "mask values 0, 1, 255, but"),
        (saved(LESION, "JPEG"), 1, "mask values 0, 1.*JPEG changes values: save it as PNG"),
        (saved(LESION * 20, "JPEG"), 1, "JPEG changes values"),
        (saved(disc(20)), 1, "mask values 0, 20, 255"),
        (saved(disc(20), "JPEG"), 1, "different"),
        (saved(disc(230), "JPEG"), 1, "different"),
        (saved(disc().filter(ImageFilter.GaussianBlur(20))), 1, "different"),
        (saved(LESION * 230), 1, "mask values 0, 230"),
        (saved(LESION * 128), 1, "mask values 0, 128"),
        (saved(RING // 2), 1, "mask values 0, 127"),
        (saved(CLASSES), 1, "mask values 0, 1, 2, but .* set out_channels"),
        (saved(CLASSES * 2), 3, "mask values 0, 2, 4, but with out_channels 3 only 0 to 2 are classes"),
        (saved(CLASSES.astype(np.int32) - 1, "TIFF"), 3, "mask values -1, 0, 1, but"),
        (saved(CLASSES, "JPEG"), 3, "JPEG changes class indices"),
        (saved(ALPHA), 1, "transparency"),
        (saved(ALPHA * np.uint8([0, 0, 0, 1])), 1, "transparency"),
        (saved(Image.merge("LA", [Image.fromarray(band) for band in (LESION * 0, LESION * 255)])), 1, "transparency"),
        (saved(np.dstack([LESION, LESION * 0, LESION * 0])), 1, r"in colours, \(1, 0, 0\)\. .*mask_colors"),
        (saved(np.dstack([CLASSES, CLASSES * 0, CLASSES * 0])), 3, "in colours"),
        (saved(WIDE * 300), 1, "mask values 0, 300"),
        (saved(CLASSES * np.uint16(500)), 1, "mask values 0, 500, 1000"),
        (saved(FLOAT * 0.7, "TIFF"), 1, "mask values 0, 0.7, which are no integers"),
        (saved(FLOAT * 0.999999, "TIFF"), 1, "no integers"),
        (saved(FLOAT * np.nan, "TIFF"), 1, "no integers"),
        (saved(LESION.astype(np.int32) * -1, "TIFF"), 1, "mask values -1, 0"),
        (saved(palette(LESION, RED, BLACK)), 1, r"palette entries 0 \(128, 0, 0\), 1 \(0, 0, 0\)"),
        (saved(palette(LESION * 2, BLACK, GREEN, RED)), 1, "palette entries"),
        (saved(palette(CLASSES, (0, 0, 0), (2, 2, 2), (1, 1, 1))), 3, "the numbers or the greys"),
        (saved(LESION * 255, "TIFF", "CMYK"), 1, "in CMYK"),
    ],
)
def test_other_values_are_refused(mask, out_channels, message):
    with pytest.raises(InputError, match=message):
        to_mask(mask, out_channels)


def test_unknown_pixels():
    void = CLASSES.copy()
    void[:3] = 255
    for stored in (
        saved(void),
        saved(void.astype(np.float32), "TIFF"),
        saved(palette(void, BLACK, RED, GREEN, *[WHITE] * 252, VOID)),
    ):
        np.testing.assert_array_equal(np.asarray(to_mask(stored, 3, ignore_label=255)), void)
        assert np.asarray(to_mask(stored, 3, ignore_label=255)).dtype == np.uint8
    highest = np.where(void == 255, 3, void)  # as for nnU-Net
    np.testing.assert_array_equal(np.asarray(to_mask(saved(highest), 3, ignore_label=3)), highest)
    gray = np.where(void == 255, 128, LESION * 255).astype(np.uint8)
    table = {"black": 0, "white": 1, "gray": 255}
    np.testing.assert_array_equal(np.asarray(to_mask(saved(gray), 1, table, 255)), np.where(void == 255, 255, LESION))
    for options, message in (
        ({"out_channels": 3}, "only 0 to 2 are classes"),
        ({"out_channels": 3, "ignore_label": 2}, "ignore_label 2 is one of the classes 0 to 2"),
        ({"ignore_label": 255}, "grey values of one structure may be the lesion. Name the class of each"),
    ):
        with pytest.raises(InputError, match=message):
            to_mask(saved(void), **options)


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
    assert (stored.n_frames, to_rgb(stored).size) == (2, (16, 16))
