# SPDX-License-Identifier: Apache-2.0
"""Find what is in a folder of DICOM files: photographs, loops, videos, and series of slices, sorted by position.

A frame has an *address*, which is handled like the path of an image: ``FILE/INDEX/NAME.dcm`` is the frame ``INDEX`` of
the file ``FILE``, and its outputs are called ``NAME``. Names hold no patient data.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BrokenFile, InputError
from .listing import ENDINGS, IMAGE_FOLDERS, list_files, named_folders, refuse_other_encoding

logger = logging.getLogger(__name__)

PHOTOGRAPH, LOOP, VIDEO, SERIES = "photograph", "loop", "video", "series"
DICOM_ENDING = re.compile(r"\.(dcm|dicom|ima)$", re.IGNORECASE)
VIDEO_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))  # MPEG-2, H.264 and H.265
PRIVATE = ("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber")
OTHER_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".dcm")
LABELMAP = ("1.2.840.10008.5.1.4.1.1.66.7", "Label Map Segmentation Storage")  # pydicom 3.0 does not name it
INSTALL = 'pip install "unetv2-monai[dicom]", or for segment.py alone: make runtime-dicom.'
SKIPPED = "skip_finished goes by names, which DICOM files of other patients may have too. Leave it out."
SHORT = 4  # a shorter word counts only as a whole word of a name
VOLUMES: dict[str, tuple[str, ...]] = {}  # the addresses of all slices by that of the first one
UNEVEN = 0.1  # share of the distance of slices by which a slice may be off


@dataclass(frozen=True)
class Source:
    """What belongs together: its name for outputs, its frames (file and index in it), and its place if it has one."""

    kind: str
    name: str
    places: tuple[tuple[Path, int], ...]
    spacing: tuple[float, float] | None = None  # mm between columns, and between rows
    affine: np.ndarray | None = None  # from column, row and slice to RAS mm

    def addresses(self) -> list[str]:
        """Return the address of each frame, those of slices in the order of their positions."""
        if self.kind == PHOTOGRAPH:
            return [self._address(0, f"{self.name}.dcm")]
        return [self._address(number, f"{self.name}_{number:06d}.dcm") for number in range(len(self.places))]

    def volume(self) -> tuple[str, ...]:
        """Return the addresses of all slices. The first one names outputs, and stands for all in this process."""
        addresses = tuple(self._address(number, f"{self.name}.nii.gz") for number in range(len(self.places)))
        VOLUMES[addresses[0]] = addresses
        return addresses

    def _address(self, number: int, name: str) -> str:
        path, index = self.places[number]
        return str(path / str(index) / name)


@dataclass
class Found:
    """The sources of a folder, and a sentence for each file or series that cannot be used."""

    sources: list[Source] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def located(address: str | Path) -> tuple[Path, int] | None:
    """Return the file and the index of the frame at an address; None for the path of an image."""
    *_, index = (path := Path(address)).parent.parts or ("",)
    return (path.parents[1], int(index)) if index.isdecimal() and path.parents[1].is_file() else None


def list_dicom(path: Path) -> list[Path]:
    """Return the DICOM files at or below a path; none if a folder holds other images, InputError if it holds both."""
    if not path.is_dir():
        return [path] if _may_be_dicom(path) else []
    for folder in (path, *named_folders(path, IMAGE_FOLDERS)):
        if others := list_files(folder, OTHER_ENDINGS):
            if both := [each for each in folder.iterdir() if _may_be_dicom(each)]:
                other = f"{len(others)} images of other formats, such as {others[0].name}"
                raise InputError(f"{folder} holds {len(both)} DICOM files, and {other}: name a folder of one kind.")
            return []
    found = []
    for place, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        found += [each for name in sorted(files) if _may_be_dicom(each := Path(place, name))]
    for each in found:
        refuse_other_encoding(each)
    return found


def _may_be_dicom(path: Path) -> bool:
    if path.name[0] == "." or path.name.lower().endswith(OTHER_ENDINGS) or not path.is_file():
        return False
    if DICOM_ENDING.search(path.name):
        return True
    try:
        with path.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"  # at this place of all such files
    except OSError:
        return False


def find_sources(path: Path) -> Found | None:
    """Find the sources at or below a path, without decoding a pixel; None if :py:func:`list_dicom` finds no file there.

    What is no image, such as DICOMDIR, SEG and RTSTRUCT, is counted in the log. Raise InputError when pydicom is not
    installed, when no file is an image, or when files are of several patients.
    """
    headers = {file: read_header(file) for file in list_dicom(path)}
    if not headers:
        return None
    readable = [header for header in headers.values() if header is not None]
    names = _Names(readable)
    found, left_out = Found(), Counter[str]()
    patients = {str(header.get("PatientID") or header.get("PatientName", "")) for header in readable} - {""}
    if len(patients) > 1:
        raise InputError(f"{path} holds files of {len(patients)} patients: name the folder of one of them.")
    series: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in headers.items():
        if header is None:
            found.broken.append(f"{names.of(file)}: is no DICOM file that can be read")
        elif not (kind := _kind(header)):
            left_out[class_name(header)] += 1
        elif kind == SERIES:
            series.setdefault(str(header.get("SeriesInstanceUID")), []).append((file, header))
        else:
            places = tuple((file, index) for index in range(int(header.get("NumberOfFrames") or 1)))
            found.sources.append(Source(kind, names.of(file), places, spacing_of(header, 0)))
    for slices in series.values():
        name = names.unused(f"series_{slices[0][1].get('SeriesNumber') or ''}".rstrip("_"))
        try:
            found.sources.append(_stack(name, slices))
        except BrokenFile as error:
            found.broken.append(str(error))
        except Exception as error:  # of values that are none, or of missing ones
            found.broken.append(f"{name}: its headers cannot be used ({error})")
    if left_out:
        shown = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        logger.info(f"DICOM files that are no images are left out: {shown}.")
    if names.hidden:
        logger.info(f"{names.hidden} files have patient data in their names: outputs are called dicom_0001 and so on.")
    if not found.sources and not found.broken:
        raise InputError(f"{path} holds no DICOM image, only other files ({sum(left_out.values())}).")
    return found


def series_of(addresses: Sequence[str]) -> Source:
    """Find the series of a volume again, by the addresses of all slices, or by the first one in the same process."""
    whole = VOLUMES.get(addresses[0], addresses)
    files = dict.fromkeys(path for path, _ in filter(None, map(located, whole)))
    return _stack(Path(whole[0]).name.removesuffix(".nii.gz"), [(file, read_header(file)) for file in files])


def frame_rate(source: Source) -> Fraction:
    """Return the frames in a second of a loop or video; 25 where the file does not say."""
    header = read_header(source.places[0][0])
    rate = float(header.get("CineRate") or header.get("RecommendedDisplayFrameRate") or 25)
    return 1000 / Fraction(float(header.get("FrameTime") or 0) or 1000 / rate).limit_denominator(1000)


class _Names:
    """Names of outputs: those of the files, unless they hold words of patient data; each is given once."""

    def __init__(self, headers: Sequence[Any]) -> None:
        private = " ".join(str(header.get(key) or "").lower() for header in headers for key in PRIVATE)
        uids = {str(header.get("SOPInstanceUID") or "") for header in headers}
        self.words, self.used, self.hidden = {*re.split(r"[\W_]+", private), *uids} - {""}, set[str](), 0

    def of(self, file: Path) -> str:
        stem = DICOM_ENDING.sub("", file.name)
        whole = {*re.split(r"[\W_]+", stem.lower())}
        if any(word in (stem.lower() if len(word) >= SHORT else whole) for word in self.words):
            self.hidden += 1
            return self.unused(f"dicom_{self.hidden:04d}")
        return self.unused(stem)

    def unused(self, name: str) -> str:
        other, number = name, 1
        while other.lower() in self.used:
            number += 1
            other = f"{name}_{number}"
        self.used.add(other.lower())
        return other


def read_header(path: Path) -> Any:
    """Read a file up to its pixels; None if that fails."""
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise InputError(f"DICOM takes pydicom, which is not installed: {INSTALL}") from error
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        int(header.get("NumberOfFrames") or 1)
        return header if class_name(header) else None
    except Exception:  # of damaged files, pydicom raises almost anything
        return None


def class_name(header: Any) -> str:
    """Return what a file is, such as "CT Image Storage"; that of DICOMDIR is in its file header alone."""
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return LABELMAP[1] if kind == LABELMAP[0] else getattr(kind, "name", "")


def _kind(header: Any) -> str:
    """Return the kind of source that a file belongs to; an empty text for what is no image, or a slide in tiles."""
    name = class_name(header)
    if "Image Storage" not in name or "Slide" in name:
        return ""
    if header.file_meta.get("TransferSyntaxUID") in VIDEO_SYNTAXES:
        return VIDEO
    if "ImagePositionPatient" in group(header, 0, "PlanePositionSequence"):
        return SERIES
    return LOOP if int(header.get("NumberOfFrames") or 1) > 1 else PHOTOGRAPH


def group(header: Any, index: int, name: str) -> Any:
    """Return a group of values of one frame of an enhanced file, which all frames may share; else the whole header."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *(header.get("SharedFunctionalGroupsSequence") or [])):
        if found := groups.get(name):
            return found[0]
    return header


def spacing_of(header: Any, index: int) -> tuple[float, float] | None:
    """Return the mm between the columns and between the rows of a frame, if they are stated."""
    values = group(header, index, "PixelMeasuresSequence").get("PixelSpacing")
    return (float(values[1]), float(values[0])) if values else None


def _stack(name: str, slices: Sequence[tuple[Path, Any]]) -> Source:
    """Sort slices by position; raise BrokenFile if they do not form one volume."""
    places, positions, planes, layouts = [], [], [], Counter[tuple[float, ...]]()
    for path, header in slices:
        for index in range(int(header.get("NumberOfFrames") or 1)):
            plane = group(header, index, "PlaneOrientationSequence").get("ImageOrientationPatient")
            spacing = spacing_of(header, index)
            if spacing is None or not plane:
                raise BrokenFile(f"{name}: a slice states no PixelSpacing or no ImageOrientationPatient")
            places.append((path, index))
            positions.append([*map(float, group(header, index, "PlanePositionSequence").ImagePositionPatient)])
            planes.append([*spacing, *map(float, plane)])
            layouts[(header.Columns, header.Rows, *(np.round(planes[-1], 3) + 0.0).tolist())] += 1
    if len(layouts) > 1:
        kinds = [f"{count} of {x} x {y} pixels, {a:g} x {b:g} mm" for (x, y, a, b, *_), count in layouts.most_common(4)]
        shown = f"{len(layouts)} sizes or orientations ({', '.join(kinds)})"
        raise BrokenFile(f"{name}: mixes slices of {shown}. Put each kind into a folder.")
    across, down, *axes = planes[0]
    row, column = np.reshape(axes, (2, 3))
    normal = np.cross(row, column)
    order = np.argsort(np.array(positions) @ normal, kind="stable")
    origins = np.array(positions)[order]
    step = _step(name, origins, normal, float(slices[0][1].get("SliceThickness") or 1))
    affine = np.eye(4)
    affine[:3] = np.stack([row * across, column * down, step, origins[0]], axis=1)
    affine[:2] *= -1  # DICOM's x and y go to the left and to the back
    return Source(SERIES, name, tuple(places[index] for index in order), (across, down), affine)


def _step(name: str, origins: np.ndarray, normal: np.ndarray, thickness: float) -> np.ndarray:
    """Return the way from one slice to the next; raise BrokenFile if slices are doubled, missing or off a line."""
    if len(origins) == 1:
        return normal * thickness
    count, heights = len(origins), origins @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if len(wrong := np.flatnonzero((np.abs(gaps - usual) > UNEVEN * usual) | (gaps < 1e-3))):
        raise BrokenFile(
            f"{name}: slices are missing, doubled or unevenly spaced: {count} slices are {usual:g} mm apart, but "
            f"{gaps[wrong[0]]:g} mm after the one at {heights[wrong[0]]:g} mm. Export the whole series, once."
        )
    line = np.linspace(origins[0], origins[-1], count)
    if (off := np.abs(origins - line).max()) > UNEVEN * usual:
        raise BrokenFile(f"{name}: its {count} slices are up to {off:g} mm off a line. Resample the series.")
    return line[1] - line[0]
