# SPDX-License-Identifier: Apache-2.0
"""Write masks as DICOM Segmentation, by highdicom, with a frame for each frame of the source."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .dicom import INSTALL, LOOP, PHOTOGRAPH, VIDEO, Source
from .errors import BrokenFile, InputError
from .files import atomic, sha256_of
from .places import bundle_dir

CODES = ("category", "type", "anatomy", "modifier")
MOST_PIXELS = 2**31  # of all frames, one byte each in memory


class SegFiles:
    """Write masks as ``seg/NAME.dcm`` in a folder, and find the codes of the segments first.

    Args:
        names: a segment of ``segments.yaml`` for each class without background.
        classes: number of these classes.
        weights: the file of weights, or the exported network; None for masks that were drawn by hand.
        codes: a file of one's own with the codes of segments. Defaults to None.
        labelmap: write one LABELMAP instead of BINARY segments, which more programs read. Defaults to False.
        sha256: SHA-256 of the weights, if it is known. Defaults to None: that of the file.

    Raises:
        InputError: when a name is unknown, or their number is not that of the classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: int,
        weights: str | None,
        codes: str | None = None,
        labelmap: bool = False,
        sha256: str | None = None,
    ) -> None:
        self.codes, self.labelmap = read_codes(names, classes, codes), labelmap
        self.sha256 = sha256 or (sha256_of(Path(weights)) if weights else "")

    def write(self, source: Source, masks: Sequence[np.ndarray], output_dir: Path, broken: list[str]) -> None:
        """Write masks of class indices (height, width), one for each frame of a source in its order, as one file.

        It refers to every frame of the source, and also has those without a segment, so that readers get the whole
        grid. Patient and study are those of the source, as the standard asks for. If its header does not allow that,
        ``broken`` says why. Raise InputError if the file cannot be written.
        """
        try:
            made = self._made(source, masks)
        except Exception as error:  # of headers that lack what the standard asks for, highdicom raises almost anything
            broken.append(f"{source.name}: no SEG can be made of it ({error})")
            return
        with atomic(output_dir / "seg" / f"{source.name}.dcm") as partial:
            made.save_as(partial)

    def _made(self, source: Source, masks: Sequence[np.ndarray]) -> Any:
        import highdicom as hd
        import pydicom

        logging.getLogger("highdicom").setLevel(logging.WARNING)  # it logs each module that it copies
        if len(masks) != len(source.places):
            raise BrokenFile(f"it has {len(source.places)} frames, but {len(masks)} masks")
        if len(masks) * masks[0].size > MOST_PIXELS:
            raise BrokenFile(f"{len(masks)} frames of {masks[0].size} pixels are too many")
        files = list(dict.fromkeys(file for file, _ in source.places))
        order = range(len(masks)) if len(files) > 1 else np.argsort([index for _, index in source.places])
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        for header in headers:
            if not header.get("SpecificCharacterSet"):
                header.pop("SpecificCharacterSet", None)  # an empty one is ASCII, but highdicom stops at it
        if source.kind == PHOTOGRAPH:
            headers[0].pop("PixelSpacing", None)  # without a thickness, highdicom would not read its own file again
        elif source.kind in (LOOP, VIDEO):
            _add_positions(hd, headers[0], len(masks))
        family, parameters = ("123110", "DCM", "Artificial Intelligence"), {"weights_sha256": self.sha256}
        named = ("U-Net v2", hd.sr.CodedConcept(*family), __version__)
        algorithm = hd.AlgorithmIdentificationSequence(*named, parameters=parameters) if self.sha256 else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = hd.seg.Segmentation(
                headers,
                np.stack([masks[number] for number in order]).astype(np.uint8),
                "LABELMAP" if self.labelmap else "BINARY",
                [_described(hd, number, *each, algorithm) for number, each in enumerate(self.codes.items(), 1)],
                series_instance_uid=hd.UID(),
                series_number=int(headers[0].get("SeriesNumber") or 0) + 1000,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="unetv2-monai",
                manufacturer_model_name="U-Net v2",
                software_versions=__version__,
                device_serial_number=self.sha256[:16] or "0",
                omit_empty_frames=False,
            )
        if source.kind in (LOOP, VIDEO):
            _remove_positions(made)
        return made


def read_codes(names: Sequence[str], classes: int, file: str | None = None) -> dict[str, dict[str, Sequence[str]]]:
    """Look up the codes of segments, by name, in the bundle's ``segments.yaml`` and in a file of one's own.

    Raise InputError when the number of names is not that of the ``classes`` without background, when a name is not in
    the files, or when a file is not of that form.
    """
    try:
        import highdicom  # noqa: F401
        import yaml
    except ModuleNotFoundError as error:
        raise InputError(f"DICOM SEG takes {error.name}, which is not installed: {INSTALL}") from error
    known: dict[str, Any] = {}
    for path in (bundle_dir() / "configs" / "segments.yaml", *([Path(file)] if file else [])):
        try:
            known |= yaml.safe_load(path.read_text())
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as a table of segments ({error}).") from error
    if len(names) != classes:
        raise InputError(f"{len(names)} segments are named ({', '.join(names)}), but there are {classes} classes.")
    for name in names:
        entry = known.get(name)
        if entry is None:
            raise InputError(
                f"there is no segment {name!r}, but {', '.join(known)}. Set seg, or add codes by seg_codes."
            )
        if not {"category", "type"} <= entry.keys() <= {*CODES} or {len(code) for code in entry.values()} != {3}:
            raise InputError(f"{file}: {name!r} needs category and type, each as [code, scheme, meaning].")
    return {name: known[name] for name in names}


def _add_positions(hd: Any, header: Any, count: int) -> None:
    """Put the frames of a loop one below the other: highdicom takes several frames only if they have positions."""
    from pydicom.dataset import Dataset

    header.FrameOfReferenceUID, shared = hd.UID(), Dataset()
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", (1, 0, 0, 0, 1, 0))
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence((1, 1), 1)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], []
    for index in range(count):
        header.PerFrameFunctionalGroupsSequence.append(Dataset())
        position = hd.PlanePositionSequence("PATIENT", (0, 0, -index))
        header.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence = position


def _remove_positions(made: Any) -> None:
    """Take these positions away again: frames follow each other in time, and refer to those of the source."""
    del made.FrameOfReferenceUID, made.PositionReferenceIndicator
    for group in (*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence):
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            group.pop(name, None)
    for group in made.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        group.FrameContentSequence[0].TemporalPositionIndex = int(source.ReferencedFrameNumber)
    for item in made.DimensionIndexSequence:
        if item.DimensionDescriptionLabel == "Image Position Patient":
            item.DimensionIndexPointer, item.FunctionalGroupPointer = 0x00209128, 0x00209111
            item.DimensionDescriptionLabel = "Temporal Position Index"


def _described(hd: Any, number: int, name: str, codes: Mapping[str, Sequence[str]], algorithm: Any) -> Any:
    """Describe a segment; highdicom itself takes no modifier of its type."""
    coded = {key: hd.sr.CodedConcept(*code) for key, code in codes.items()}
    regions = [coded["anatomy"]] if "anatomy" in coded else None
    by = "AUTOMATIC" if algorithm else "MANUAL"
    described = (number, name, coded["category"], coded["type"], by, algorithm)
    found = hd.seg.SegmentDescription(*described, anatomic_regions=regions)
    if "modifier" in coded:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded["modifier"]]
    return found
