# SPDX-License-Identifier: Apache-2.0
"""labels.py and DICOM: masks of frames become SEG, and SEG of this and other programs become masks."""

import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

import highdicom
import SimpleITK as sitk
import yaml

from unetv2_monai.core.dicom import find_sources
from unetv2_monai.core.dicom_pixels import read_frame

from ..conftest import script
from ..data.folders import write_image
from ..support import dicom
from ..support.workflow import refusal


def convert(*words: object) -> None:
    script("labels").main([*map(str, words)])


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def export(tmp_path):
    """A photograph, a loop and a series, with a mask of two classes for each frame in ``masks/``."""
    folder, rng = tmp_path / "export", np.random.default_rng(0)
    dicom.draw_picture(folder, "endoscopic", "photo.dcm")
    dicom.draw_loop(folder, "loop_raw")
    dicom.draw_series(folder, "CT")
    for source in find_sources(folder).sources:
        for address in source.addresses():
            shape = read_frame(address)[0].shape[:2]
            write_image(
                tmp_path / "masks" / f"{address.rpartition('/')[2][:-4]}.png", rng.integers(0, 3, shape, np.uint8)
            )
    return folder


def test_there_and_back(export, tmp_path, capsys):
    masks = tmp_path / "masks"
    names = ["--classes", "polyp,skin lesion"]
    convert(masks, tmp_path / "out", "--to", "seg", "--dicom", export, *names)
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("SEG of 3 images, loops or series; classes: polyp, skin lesion")
    )
    written = sorted((tmp_path / "out" / "seg").iterdir())
    for path in written:
        found = highdicom.seg.segread(path)
        assert [one.SegmentAlgorithmType for one in found.SegmentSequence] == ["MANUAL", "MANUAL"]
        shutil.copy(path, export / f"seg_{path.name}")
    convert(export, tmp_path / "back", "--to", "masks", *names)
    assert sorted(path.name for path in (tmp_path / "back" / "masks").iterdir()) == sorted(
        p.name for p in masks.iterdir()
    )
    for path in masks.iterdir():
        np.testing.assert_array_equal(read(tmp_path / "back" / "masks" / path.name), read(path))
        assert read(tmp_path / "back" / "images" / path.name).shape[:2] == read(path).shape


def test_files_of_dcmqi(real_data, tmp_path):
    """Slices in the order of their positions, against SimpleITK; overlapping segments as combinations."""
    given = real_data / "dicom" / "ct_seg"
    for name in ("liver.dcm", "partial_overlaps.dcm"):
        folder = tmp_path / name
        folder.mkdir()
        for path in (*given.glob("0*.dcm"), given / name):
            shutil.copy(path, folder)
    convert(tmp_path / "liver.dcm", tmp_path / "liver", "--to", "masks")
    found = [read(path) > 0 for path in sorted((tmp_path / "liver" / "masks").iterdir())]
    image = sitk.ReadImage(str(given / "liver.dcm"))  # from the lowest slice up, as is checked here
    assert image.GetOrigin()[2] < image.TransformIndexToPhysicalPoint((0, 0, 2))[2]
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(image).reshape(3, 512, 512) > 0)
    colors = "GREEN,ORANGE,PURPLE,LIGHT_BLUE,DARK_BLUE"
    words = ["--to", "masks", "--overlaps", "--classes", colors]
    convert(tmp_path / "partial_overlaps.dcm", tmp_path / "colors", *words)
    values = np.stack([read(path) for path in sorted((tmp_path / "colors" / "masks").iterdir())])
    meaning = yaml.safe_load((tmp_path / "colors" / "overlaps.yaml").read_text())["overlaps"]
    seg = highdicom.seg.segread(given / "partial_overlaps.dcm")
    expected = [seg.get_volume(segment_numbers=[number]).array.sum() for number in seg.segment_numbers]
    assert [np.isin(values, some).sum() for some in meaning.values()] == expected
    assert max(map(len, meaning.values())) > 1


def test_what_is_refused(export, tmp_path):
    masks, new = tmp_path / "masks", ["--classes", "polyp,skin lesion", "--to", "seg"]
    said = refusal(convert, masks, tmp_path / "x", *new)
    assert "--to seg and --dicom are given together" in said
    assert "holds no mask of a frame" in refusal(convert, export, tmp_path / "x", *new, "--dicom", export)
    assert "holds no DICOM files" in refusal(convert, masks, tmp_path / "x", *new, "--dicom", masks)
    loop = next(path for path in sorted(masks.iterdir()) if "000001" in path.name and "series" not in path.name)
    loop.unlink()
    said = refusal(convert, masks, tmp_path / "x", *new, "--dicom", export)
    assert f"1 frames have no mask, such as {loop.stem}. Add them" in said
    assert not (tmp_path / "x").exists()
    write_image(loop, np.zeros((9, 9), np.uint8))
    assert "no SEG can be made of it" in refusal(convert, masks, tmp_path / "x", *new, "--dicom", export)
    assert "there is no segment 'flower'" in refusal(
        convert, masks, tmp_path / "x", "--to", "seg", "--dicom", export, "--classes", "polyp,flower"
    )
