# SPDX-License-Identifier: Apache-2.0
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


def test_what_pillow_reads_wrongly_is_refused():
    """By the tags of TIFF, and by how Pillow will decode a file (findings/pillow_planar_tiff.sh shows the planes)."""
    for tags, problem in (
        ({277: 5}, "holds 5 channels. Save those that are meant as colours"),
        ({277: 3, 284: 2, 258: (16, 16, 16)}, "holds a plane of 16 bits for each colour"),
    ):
        image = Image.new("RGB", (8, 8), (0, 90, 63))
        image.tag_v2 = tags
        assert problem in refusal(to_rgb, image)
    deep = Image.new("RGB", (8, 8), (0, 9, 63))  # the upper 8 of 16 bits
    deep.tile = [("raw", (0, 0, 8, 8), 0, ("RGB;16L", 0, 1))]
    assert "uses the lower 14 of its 16 bits" in refusal(to_rgb, deep)
    deep.putpixel((0, 0), (0, 64, 0))
    assert to_rgb(deep).getpixel((0, 0)) == (0, 64, 0)


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
