# SPDX-License-Identifier: Apache-2.0
"""Write the frames of a video or of DICOM as image files, which the page shows. This runs before the server's own
environment is entered, which has neither PyAV nor pydicom 3.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError
from unetv2_monai.core.dicom import PHOTOGRAPH, SERIES, Found, find_sources, frame_rate, list_dicom
from unetv2_monai.core.dicom_pixels import read_frame, read_series
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.files import encoded, refusing
from unetv2_monai.core.video import Video
from unetv2_monai.data.dicoms import dicom_items

MADE_OF = ".source"  # holds a hash of the files and options that a folder of frames was made of


def write_frames(source: Path, folder: Path, rate: Fraction, volumes: bool) -> None:
    """Write the frames of a video, or those of a DICOM file or folder, into a folder, unless it holds them already.

    They have the names and numbers that ``segment.py`` gives to masks. Of videos and loops, ``rate`` frames a second
    are taken, at most all. ``volumes``: write series as NIfTI instead of their slices.

    Raises:
        InputError: when no frame can be read, or a file cannot be written. The folder is then as it was.
    """
    files = list_dicom(source) or [source]
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    made_of = hashlib.sha256(json.dumps([states, str(rate), volumes]).encode()).hexdigest()
    if (folder / MADE_OF).is_file() and (folder / MADE_OF).read_text() == made_of:
        return
    broken, count = list[str](), 0
    with refusing(folder), TemporaryDirectory(prefix=".unfinished_", dir=folder.parent) as made:
        (unfinished := Path(made, "frames")).mkdir()
        if (found := find_sources(source)) and volumes:
            count = _write_volumes(found, unfinished)
        else:
            frames = _of_dicom(found, rate) if found else _of_video(source, rate, broken)
            for name, image in tqdm(frames, desc="Writing frames", unit="frame", disable=None):
                (unfinished / f"{name}.png").write_bytes(encoded(Image.fromarray(image), "png", compress_level=1))
                count += 1
        (unfinished / MADE_OF).write_text(made_of)
        broken += found.broken if found else []
        if not count:
            raise InputError("\n  ".join([f"{source} holds nothing to label.", *broken]))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    print(f"{count} {'volumes' if volumes else 'frames'} written to {folder}")
    if broken:
        print("\n  ".join(["Left out, since they could not be read:", *broken]), file=sys.stderr)


def _of_video(path: Path, rate: Fraction, broken: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and images of the frames of a video; add a sentence if it breaks off."""
    video, last = Video(str(path)), -1
    for frame in video.frames():
        if (second := int(frame.time * video.time_base * rate)) > last:
            last = second
            yield f"{path.stem}_{int(frame.name):06d}", frame.image
    broken += [video.broken] if video.broken else []


def _of_dicom(found: Found, rate: Fraction) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and images of the frames of DICOM sources, of a series all slices."""
    for source in found.sources:
        step = Fraction(1) if source.kind in (PHOTOGRAPH, SERIES) else rate / frame_rate(source)
        last = -1
        try:
            for number, address in enumerate(source.addresses()):
                if (moment := int(number * step)) > last:
                    last = moment
                    yield Path(address).stem, read_frame(address)[0]
        except BrokenFile as error:
            found.broken.append(str(error))


def _write_volumes(found: Found, folder: Path) -> int:
    """Write each series as NIfTI, and return their number."""
    _, sources, _ = dicom_items(found, volumes=True, check=True)
    for source in sources:
        nibabel.save(nibabel.Nifti1Image(read_series(source), source.affine), folder / f"{source.name}.nii.gz")
    return len(sources)
