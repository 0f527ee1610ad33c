# SPDX-License-Identifier: Apache-2.0
"""What the label page gets of videos and DICOM: frames as image files, before the server starts."""

import importlib
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

import SimpleITK as sitk

from unetv2_monai import InputError

from ..conftest import ROOT
from ..support import dicom
from ..support.segmenting import write_video


@pytest.fixture
def frames_of(tmp_path, monkeypatch):
    """Writes the frames of a source, and returns them as arrays by their names, in order."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    write = importlib.import_module("label_start.frames").write_frames

    def written(source: Path, rate: float = 1, volumes: bool = False) -> dict[str, np.ndarray]:
        write(source, tmp_path / "frames", Fraction(rate), volumes)
        return {path.stem: np.asarray(Image.open(path)) for path in sorted((tmp_path / "frames").glob("*.png"))}

    return written


@pytest.mark.parametrize(("rate", "kept"), [(1, (0, 25, 50)), (2, (0, 13, 25, 38, 50)), (1000, range(52))])
def test_frames_of_a_video_keep_their_numbers(rate, kept, tmp_path, frames_of):
    """52 frames at 25 a second: at two a second, those that first reach each half of a second."""
    video = write_video(tmp_path / "clip.mp4", [np.full((32, 32, 3), 4 * index, np.uint8) for index in range(52)])
    found = frames_of(video, rate)
    assert [*found] == [f"clip_{number:06d}" for number in kept]
    assert [round(image.mean() / 4) for image in found.values()] == [*kept]


def test_frames_of_dicom(tmp_path, frames_of, capsys):
    """All slices, the first frame of 0.16 seconds of a loop; a broken file is named, and no name is the patient's."""
    dicom.draw_loop(tmp_path / "export", "loop_raw")
    dicom.draw_series(tmp_path / "export", "CT")
    dicom.draw_picture(tmp_path / "export", "photographic", "Quixote_4711.dcm")
    dicom.changed(dicom.draw_picture(tmp_path / "export", "endoscopic"), PixelData=None)
    found = frames_of(tmp_path / "export")
    assert [*found] == ["dicom_0001", "loop_raw_000000", *(f"series_7_{number:06d}" for number in range(5))]
    assert (found["dicom_0001"] == dicom.picture()).all()
    said = capsys.readouterr()
    assert said.out.startswith("7 frames written to")
    assert "endoscopic.dcm: holds no pixel data" in said.err
    assert [*frames_of(tmp_path / "export", 25)][1:5] == [f"loop_raw_{number:06d}" for number in range(4)]
    kept = (tmp_path / "frames" / "dicom_0001.png").stat().st_mtime_ns
    frames_of(tmp_path / "export", 25)
    assert (tmp_path / "frames" / "dicom_0001.png").stat().st_mtime_ns == kept  # nothing changed


def test_series_as_volumes(tmp_path, frames_of):
    paths = dicom.draw_series(tmp_path / "CT", "CT")
    frames_of(tmp_path / "CT", volumes=True)
    (written,) = (tmp_path / "frames").glob("*.nii.gz")
    ours, other = sitk.ReadImage(str(written)), sitk.ReadImage([str(paths[index]) for index in (2, 1, 4, 0, 3)])
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(other))
    for place in ((0, 0, 0), (3, 7, 4)):
        ways = [image.TransformIndexToPhysicalPoint(place) for image in (ours, other)]
        assert np.allclose(*ways, atol=1e-3)


def test_what_has_no_frame_leaves_nothing(tmp_path, frames_of):
    frames_of(dicom.draw_picture(tmp_path / "good", "endoscopic"))
    broken = dicom.changed(dicom.draw_picture(tmp_path / "bad", "endoscopic"), PixelData=None)
    with pytest.raises(InputError, match=r"holds nothing to label.\n  endoscopic.dcm: holds no pixel data"):
        frames_of(broken)
    with pytest.raises(InputError, match="endoscopic: is a photograph, but the network is for volumes"):
        frames_of(tmp_path / "good", volumes=True)
    assert [path.name for path in (tmp_path / "frames").glob("*.png")] == ["endoscopic.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "frames", "good"]


def test_the_command_writes_frames_and_goes_on_in_the_other_environment(tmp_path, frames_of, monkeypatch):
    command, entered = importlib.import_module("label_server"), []
    monkeypatch.setattr(command, "label_python", lambda: Path(sys.executable))
    monkeypatch.setattr(os, "execv", lambda _, arguments: entered.append(arguments) or sys.exit(0))
    loop, work = dicom.draw_loop(tmp_path / "export", "loop_raw"), tmp_path / "work"
    monkeypatch.setattr(sys, "argv", ["label_server.py"])
    options = ["--images", str(loop), "--work_dir", str(work), "--port", "0", "--rate"]
    with pytest.raises(SystemExit, match=r"--rate 0\.0: must be above 0"):
        command.main([*options, "0"])
    with pytest.raises(SystemExit, match="--in_place: the frames of"):
        command.main([*options, "5", "--in_place"])
    assert not work.exists()
    with pytest.raises(SystemExit, match=r"^0$"):
        command.main([*options, "20"])
    assert entered == [[sys.executable, "label_server.py"]]
    kept = sorted(path.stem for path in (work / "frames").glob("*.png"))
    assert kept == [f"loop_raw_{number:06d}" for number in (0, 2, 3)]
