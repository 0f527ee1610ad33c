# SPDX-License-Identifier: Apache-2.0
"""DICOM in the core: pixels as other readers see them, slices by position, one sentence for each fault, safe names."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

import highdicom
import SimpleITK as sitk
from pydicom.pixels import get_decoder
from pydicom.uid import JPEGLosslessSV1

from unetv2_monai.core.dicom import find_sources, located
from unetv2_monai.core.dicom_pixels import read_frame, read_series

from ..data.folders import write_image
from ..support import dicom
from ..support.workflow import refusal


def in_rgb(values: np.ndarray) -> np.ndarray:
    values = values if values.shape[-1] == 3 else np.repeat(values[..., None], 3, axis=-1)
    return np.round(values / (257 if values.max() > 255 else 1))  # a palette of 16 bits


def by_highdicom(path: Path, count: int) -> np.ndarray:
    image = highdicom.imread(path)
    options = {"apply_voi_transform": None, "voi_output_range": (0, 255)}
    return in_rgb(np.stack([image.get_frame(number + 1, **options) for number in range(count)]).astype(float))


def by_simpleitk(path: Path, count: int) -> np.ndarray:
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return values.reshape(count, dicom.HEIGHT, dicom.WIDTH, 3)


# SimpleITK does not know the class of dermoscopic images (findings/), and gives grey values without their window
READERS = [(name, by_highdicom) for name in (*dicom.PICTURES, *dicom.LOOPS)]
OTHERS = ("dermoscopic", "secondary_grey12", "secondary_inverse", "secondary_exact", "secondary_sigmoid")
READERS += [(name, by_simpleitk) for name, _ in READERS if name not in OTHERS]


@pytest.mark.parametrize(("name", "reader"), READERS)
def test_pixels_are_those_of_other_readers(name: str, reader: Callable[[Path, int], np.ndarray], tmp_path):
    path = dicom.draw_loop(tmp_path, name) if name in dicom.LOOPS else dicom.draw_picture(tmp_path, name)
    (source,) = find_sources(tmp_path).sources
    ours = np.stack([read_frame(address)[0] for address in source.addresses()])
    assert ours.dtype == np.uint8
    assert np.abs(ours - reader(path, len(ours)).astype(int)).max() == 0
    if name in ("photographic", "dermoscopic", "secondary_lossless", "secondary_rle", "secondary_jpegls", "loop_raw"):
        assert (ours == [dicom.picture(index) for index in range(len(ours))]).all()


@pytest.mark.parametrize("codec", dicom.VIDEOS)
def test_frames_of_videos(codec, tmp_path):
    pytest.importorskip("av")
    dicom.draw_video(tmp_path, codec)
    (source,) = find_sources(tmp_path).sources
    frames = {index: read_frame(source.addresses()[index])[0] for index in (0, 1, 3, 4, 2, 0)}  # also backwards
    for index, frame in frames.items():
        differences = [np.abs(frame - dicom.picture(other).astype(int)).mean() for other in range(5)]
        assert np.argmin(differences) == index
        assert differences[index] < 3


@pytest.mark.parametrize("kind", ["CT", "MR", "enhanced"])
def test_slices_are_sorted_by_position(kind, tmp_path):
    draw = dicom.draw_enhanced if kind == "enhanced" else lambda folder: dicom.draw_series(folder, kind)
    draw(tmp_path)
    (source,) = find_sources(tmp_path).sources
    assert (read_series(source).transpose(2, 1, 0) == dicom.volume() - 200).all()
    across = np.array(dicom.OBLIQUE if kind == "MR" else dicom.AXIAL)
    to_lps = np.stack([across[:3] * 0.7, across[3:] * 0.9, np.cross(across[:3], across[3:]) * 2.5], axis=1)
    assert source.affine is not None
    assert np.allclose(source.affine[:3, :3], np.diag([-1, -1, 1]) @ to_lps)
    assert np.allclose(source.affine[:3, 3], [20, -30, 5])


def changed_picture(name: str = "photographic", **values: object) -> Callable[[Path], Path]:
    return lambda folder: dicom.changed(dicom.draw_picture(folder, name), **values)


def of_slices(*order: int, **values: object) -> Callable[[Path], Path]:
    """A series whose first slice has other values."""
    return lambda folder: dicom.changed(dicom.draw_series(folder, "CT", order)[0], **values)


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (changed_picture(PixelData=None), r"^photographic\.dcm: holds no pixel data$"),
    (changed_picture("endoscopic", TransferSyntaxUID="1.2.3.4"), r"transfer syntax 1\.2\.3\.4 is none"),
    (changed_picture(BitsAllocated=16, BitsStored=16), "holds colours of 16 bits. Convert it to 8"),
    (changed_picture(PhotometricInterpretation="CMYK"), "its colours are in CMYK"),
    (changed_picture(PixelData=b"12"), "cannot be decoded"),
    (lambda folder: (folder / "a.dcm").write_bytes(b"damaged"), "^a: is no DICOM file that can be read"),
    (of_slices(0, 1, 2, ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), r"^series_7: .* 2 sizes .* \(2 of 64 x 48 pixels"),
    (of_slices(4, 0, 1, 3), "4 slices are 2.5 mm apart, but 5 mm after .* 7.5 mm"),
    (of_slices(0, 1, 1, 2), "4 slices are 2.5 mm apart, but 0 mm after .* 7.5 mm"),
    (lambda folder: dicom.changed(dicom.draw_video(folder), NumberOfFrames=9), "its video ends after 5 of 9 frames"),
]


@pytest.mark.parametrize(("draw", "message"), FAULTS)
def test_each_fault_is_one_sentence(draw, message, tmp_path):
    draw(tmp_path)
    found = find_sources(tmp_path)
    sentence = found.broken[0] if found.broken else refusal(list, map(read_frame, found.sources[0].addresses()))
    assert re.search(message, sentence), sentence
    assert "\n" not in sentence
    assert not any(word in sentence for word in ("Quixote", "4711"))


def test_missing_decoder(tmp_path, monkeypatch):
    address = dicom.draw_picture(tmp_path, "secondary_lossless")
    monkeypatch.setattr(get_decoder(JPEGLosslessSV1), "_available", {})
    assert re.search(r"no decoder .*4\.70 \(JPEG Lossless.* is installed", refusal(read_frame, address))


def test_folders_that_are_refused(tmp_path):
    first = dicom.draw_picture(tmp_path / "two", "photographic")
    dicom.changed(dicom.draw_picture(tmp_path / "two", "endoscopic"), PatientID="Panza")
    assert "holds files of 2 patients" in refusal(find_sources, tmp_path / "two")
    dicom.save(dicom.new("88.11", "SR"), tmp_path / "report" / "a")
    assert "holds no DICOM image" in refusal(find_sources, tmp_path / "report")
    write_image(first.parent / "a.png", np.zeros((4, 4), np.uint8))
    assert "2 DICOM files, and 1 images of other formats" in refusal(find_sources, first.parent)


def test_names_and_addresses(tmp_path, caplog):
    """A name with the patient's data is replaced, and equal names are told apart."""
    caplog.set_level(logging.INFO)
    for name in ("a/IM1", "b/IM1", "c/4711_IM", "d/ALONSO", "e/x.1.dcm"):
        dicom.draw_picture(tmp_path, "photographic", name)
    dicom.save(dicom.new("88.11", "SR"), tmp_path / "DICOMDIR")
    sources = find_sources(tmp_path).sources
    assert [source.name for source in sources] == ["IM1", "IM1_2", "dicom_0001", "dicom_0002", "x.1"]
    assert located(sources[0].addresses()[0]) == (tmp_path / "a" / "IM1", 0)
    assert located(tmp_path / "a" / "IM1") is None
    assert "left out: 1 Basic Text SR Storage" in caplog.text
    assert "2 files have patient data in their names" in caplog.text
