# SPDX-License-Identifier: Apache-2.0
"""segment.py and ``run inference`` on DICOM: masks, lesions, SEG as three readers see it, and no patient data."""

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

pytest.importorskip("openvino")
pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

import highdicom
import SimpleITK as sitk

from unetv2_monai import list_images
from unetv2_monai.core.dicom import PHOTOGRAPH, SERIES, Source, find_sources
from unetv2_monai.core.dicom_seg import SegFiles, read_codes
from unetv2_monai.data.dicoms import masks_of

from ..conftest import read_table
from ..support import dicom
from ..support.exported import description, write_bright
from ..support.segmenting import refused, segment
from ..support.workflow import CONFIGS, INFERENCE, overlays, refusal, run


@pytest.fixture(scope="module")
def segmented(tmp_path_factory) -> Path:
    """A folder with every class in ``in/``, and what both commands write in ``out/`` and ``bundle/``."""
    folder = tmp_path_factory.mktemp("dicom")
    dicom.draw_all(folder / "in")
    model = write_bright(folder / "model.xml", description((dicom.HEIGHT, dicom.WIDTH), weights_sha256="ab" * 32))
    segment(model, folder / "in", "--output_dir", folder / "out", "--seg", "skin lesion")
    files = [*INFERENCE, *overlays("options/inference_openvino", "options/inference_overlays", "options/inference_seg")]
    options = {"image_size": [dicom.HEIGHT, dicom.WIDTH], "seg": ["skin lesion"], "checkpoint": str(model)}
    run(files, "inference", dataset_dir=str(folder / "in"), output_dir=str(folder / "bundle"), **options)
    return folder


def by_highdicom(seg: Path, source: Source) -> np.ndarray:
    """The masks by the frames of the source that they refer to."""
    opened, files = highdicom.seg.segread(seg), dict.fromkeys(path for path, _ in source.places)
    uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files]
    if len(uids) > 1 or source.kind == PHOTOGRAPH:
        return opened.get_pixels_by_source_instance(uids, combine_segments=True)
    return opened.get_pixels_by_source_frame(uids[0], [index + 1 for _, index in source.places], combine_segments=True)


def by_simpleitk(seg: Path, source: Source) -> np.ndarray:
    """The masks by position, or in the file's order where there is none."""
    image = sitk.ReadImage(str(seg))
    values = sitk.GetArrayFromImage(image) > 0
    if source.affine is None:
        return values
    corner = np.diag([-1, -1, 1]) @ image.GetOrigin()
    far = bool(np.abs(corner - source.affine[:3, 3]).max() > 0.01)  # it begins at the other end
    last = source.affine @ [0, 0, len(values) - 1 if far else 0, 1]
    assert np.allclose(corner, last[:3], atol=1e-3)
    turned = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing() * [1, 1, -1 if far else 1]
    assert np.allclose(np.diag([-1, -1, 1]) @ turned, source.affine[:3, :3], atol=1e-4)
    return values[::-1] if far else values


def by_dcmqi(seg: Path, source: Source, folder: Path) -> np.ndarray:
    tool = Path(pytest.importorskip("dcmqi").__file__).parent / "bin" / "segimage2itkimage"
    command = [str(tool), "--inputDICOM", str(seg), "--outputDirectory", str(folder), "-t", "nii"]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.nii.gz")
    volume = nibabel.load(path)
    assert np.allclose(volume.affine, source.affine, atol=1e-3)
    return np.asarray(volume.dataobj).transpose(2, 1, 0) > 0


def test_every_reader_sees_the_masks(segmented, tmp_path):
    """dcmqi reads only what has positions; both commands write the same pixels."""
    sources = find_sources(segmented / "in").sources
    assert len(sources) == len(dicom.PICTURES) + len(dicom.LOOPS) + len(dicom.VIDEOS) + 3
    for source in sources:
        masks = np.stack(masks_of(source, segmented / "bundle", one_class=True))
        assert masks.any() or source.kind == SERIES, source.name
        for command in ("out", "bundle"):
            seg = segmented / command / "seg" / f"{source.name}.dcm"
            assert (by_highdicom(seg, source) == masks).all(), source.name
            assert (by_simpleitk(seg, source) == masks).all(), source.name
        if source.kind == SERIES:
            (folder := tmp_path / source.name).mkdir()
            assert (by_dcmqi(seg, source, folder) == masks).all(), source.name
    opened = pydicom.dcmread(segmented / "out" / "seg" / "endoscopic.dcm").SegmentSequence[0]
    assert opened.SegmentedPropertyTypeCodeSequence[0].CodeValue == "95324001"
    assert "ab" * 32 in opened.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters


def test_lesions_of_both_commands(segmented):
    lesions = read_table(segmented / "bundle" / "lesions.csv")
    rows = {row["image"]: row for row in lesions}
    assert rows["dermoscopic.dcm"]["mm2"] == "0.8800"  # 440 pixels of 0.04 x 0.05 mm
    names = {f"{source.name}.dcm" for source in find_sources(segmented / "in").sources if source.kind == PHOTOGRAPH}
    assert [row for row in lesions if row["image"] in names] == read_table(segmented / "out" / "lesions.csv")
    loop = read_table(segmented / "out" / "loop_raw_lesions.csv")
    assert [(row["frame"], row["left"]) for row in loop] == [(str(index), str(12 + index)) for index in range(4)]


def test_no_patient_data(segmented, tmp_path, caplog, capsys):
    """Neither in what is written nor printed, but for SEG."""
    model = segmented / "model.xml"
    segment(model, segmented / "in" / "pictures", "--output_dir", tmp_path / "out")
    printed = capsys.readouterr()
    texts = {"printed": (printed.out + printed.err + caplog.text).encode()}
    for folder in ("out", "bundle"):
        texts |= {
            str(path): path.read_bytes() for path in (segmented / folder).rglob("*.*") if path.parent.name != "seg"
        }
    assert len(texts) > 100
    for name, content in texts.items():
        for word in ("quixote", "alonso", "4711", "0815", "16050116"):
            assert word not in name.lower()
            assert word.encode() not in content.lower(), name


def test_broken_files_and_unknown_segments(segmented, tmp_path):
    model, folder = segmented / "model.xml", tmp_path / "in"
    dicom.changed(dicom.draw_picture(folder, "photographic"), PixelData=None)
    dicom.draw_picture(folder, "endoscopic")
    dicom.draw_series(folder, "CT", (0, 1, 3))
    title, *lines = refused(model, folder, "--output_dir", tmp_path / "out")
    assert title == "error: 2 files could not be read, the others are done:"
    assert [line.strip().partition(":")[0] for line in lines] == ["series_7", "photographic.dcm"]
    names = sorted(path.name for path in (tmp_path / "out").glob("*.*"))
    assert names == ["endoscopic.png", "images.csv", "lesions.csv"]
    (line,) = refused(model, folder, "--output_dir", folder, "--seg", "wart")
    assert "no segment 'wart', but polyp, skin lesion" in line
    (line,) = refused(model, folder, "--output_dir", tmp_path / "out", "--skip_finished")  # another patient's mask
    assert "skip_finished goes by names" in line
    assert line.removeprefix("error: ") == refusal(list_images, str(folder), False, "x", True, True)
    (tmp_path / "mine.yaml").write_text("wart: {category: [a, b, c], type: [d, e, f]}")
    assert list(read_codes(["wart"], 1, str(tmp_path / "mine.yaml"))) == ["wart"]


def test_a_volume_of_slices(tmp_path):
    """Two structures of a series, with its grid; LABELMAP is read by highdicom and dcmqi."""
    dicom.draw_series(tmp_path / "MR", "MR")
    files = [*INFERENCE, str(CONFIGS / "recipes" / "volumes.yaml"), *overlays("options/inference_seg")]
    names = ["anterior hippocampus", "posterior hippocampus"]
    options = {"checkpoint": str(CONFIGS.parent / "models" / "volumes.pt"), "seg": names, "labelmap": True}
    run(files, "inference", dataset_dir=str(tmp_path / "MR"), output_dir=str(tmp_path / "out"), **options)
    (source,) = find_sources(tmp_path / "MR").sources
    volume = nibabel.load(tmp_path / "out" / "series_7.nii.gz")
    assert np.allclose(volume.affine, source.affine, atol=1e-5)
    masks = np.asarray(volume.dataobj).transpose(2, 1, 0)
    assert (by_highdicom(tmp_path / "out" / "seg" / "series_7.dcm", source) == masks).all()


def test_a_real_series_keeps_its_grid(real_data, tmp_path):
    (source,) = find_sources(real_data / "dicom" / "ct_seg").sources
    masks = (np.random.default_rng(0).random((len(source.places), 512, 512)) < 0.1).astype(np.uint8)
    masks[0] = 0  # an empty slice is kept
    broken: list[str] = []
    SegFiles(["polyp"], 1, "", sha256="0" * 64).write(source, masks, tmp_path, broken)
    seg = tmp_path / "seg" / f"{source.name}.dcm"
    assert broken == []
    assert (by_highdicom(seg, source) == masks).all()
    assert (by_simpleitk(seg, source) == masks).all()
    assert (by_dcmqi(seg, source, tmp_path) == masks).all()
