# SPDX-License-Identifier: Apache-2.0
import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from unetv2_monai import list_images, to_mask, to_rgb
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.images import read_image, read_picture, resize

from ..support.workflow import refusal
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


STEPS = np.arange(0, 4001, 20)[None]  # 201 values: the percentiles 0.5 and 99.5 are the second and the last but one


@pytest.mark.parametrize(
    ("values", "window"),
    [
        (STEPS.astype(np.uint16), (20, 3980)),  # 12 bits in 16
        (STEPS.astype(np.int32) - 1000, (-980, 2980)),  # Hounsfield units
        ((STEPS / 4000).astype(np.float32), (0.005, 0.995)),
        ((STEPS * 16).astype(np.uint16), None),  # the full range stays as it is
        ((STEPS / 16).astype(np.float32), None),
        (np.where(STEPS == 20, 65535, STEPS).astype(np.uint16), (40, 4000)),  # one hot pixel makes no full range
    ],
)
def test_grey_values_of_little_contrast_get_a_window(values, window, tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    picture = read_picture(path)
    assert picture.info.get("window") == (pytest.approx(window) if window else None)
    if window:
        low, high = window
        expected = [min(max(255 * (value - low) / (high - low), 0), 255) for value in values[0].tolist()]
    else:
        expected = (values[0] / (257 if values.dtype == np.uint16 else 1)).astype(int).tolist()
    assert np.abs(np.asarray(picture)[0, :, 1] - np.array(expected)).max() <= 0.501


def test_the_log_counts_windows(tmp_path, caplog):
    caplog.set_level("INFO")
    Image.fromarray(GREY).save(tmp_path / "b.png")
    Image.fromarray(STEPS.astype(np.uint16)).save(tmp_path / "a.png")
    assert len(list_images(str(tmp_path))) == 2
    assert "1 of 2 images have grey values of little contrast" in caplog.text
    assert "(20 and 3980 of a.png)" in caplog.text


def tiff(values: np.ndarray, planar: int = 1, tiled: bool = False) -> Image.Image:
    """An uncompressed TIFF of these values (height, width, channels), as other programs write it."""
    height, width, channels = values.shape
    planes = [values[..., index] for index in range(channels)] if planar == 2 else [values]
    place, length = (324, 325) if tiled else (273, 279)
    entries = {256: [width], 257: [height], 258: [8 * values.itemsize] * channels, 259: [1], 277: [channels]}
    entries |= {262: [2 if channels > 2 else 1], 284: [planar], place: [0] * len(planes)}
    entries |= {322: [width], 323: [height]} if tiled else {278: [height]}
    entries |= {length: [plane.nbytes for plane in planes]} | ({338: [0] * (channels - 3)} if channels > 3 else {})
    head = 8 + 2 + 12 * len(entries) + 4
    start = head + 4 * sum(len(some) for some in entries.values() if len(some) > 1)
    entries[place] = [start + sum(plane.nbytes for plane in planes[:index]) for index in range(len(planes))]
    content, extra = struct.pack("<2sHIH", b"II", 42, 8, len(entries)), b""
    for tag, some in sorted(entries.items()):
        packed = struct.pack(f"<{len(some)}I", *some)
        inside = len(some) == 1
        content += struct.pack("<HHI", tag, 4, len(some)) + (packed if inside else struct.pack("<I", head + len(extra)))
        extra += b"" if inside else packed
    return Image.open(io.BytesIO(content + bytes(4) + extra + b"".join(plane.tobytes() for plane in planes)))


@pytest.mark.parametrize(
    ("channels", "dtype", "tags", "problem"),
    [
        (1, np.uint16, {"tiled": True}, None),
        (3, np.uint8, {"tiled": True}, None),
        (3, np.uint8, {"planar": 2}, None),
        (3, np.uint16, {}, None),
        (5, np.uint8, {}, "holds 5 channels. Save those that are meant as colours"),
        (3, np.uint16, {"planar": 2}, "holds a plane of 16 bits for each colour"),
    ],
)
def test_tiff_of_other_programs(channels, dtype, tags, problem):
    """Tiles and planes are read, all else is refused."""
    values = np.random.default_rng(0).integers(0, 256, (64, 48, channels)).astype(dtype)
    image = tiff(values * (257 if dtype == np.uint16 else 1), **tags)
    if problem:
        assert problem in refusal(to_rgb, image)
    else:
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.broadcast_to(values, (64, 48, 3)))


def test_dark_colours_of_16_bits_are_refused():
    """Pillow keeps the upper 8 bits alone."""
    assert "uses the lower 14 of its 16 bits" in refusal(to_rgb, tiff(np.full((16, 16, 3), 4095, np.uint16)))


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
