# SPDX-License-Identifier: Apache-2.0
"""DICOM sources of several frames as videos, and their masks as DICOM SEG."""

import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from unetv2_monai.core.dicom import Source, frame_milliseconds
from unetv2_monai.core.dicom_pixels import read_frame
from unetv2_monai.core.dicom_seg import Segments, read_codes, write_seg
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.frames import Frame

from .network import Network
from .results import Settings


class Clip:
    """The frames of a source, with what clips.py takes of a ``Video``. Slices are shown by their window."""

    aspect, cut = None, False

    def __init__(self, source: Source) -> None:
        self.source, self.expected, self.broken = source, len(source.places), ""
        self.rate = 1000 / Fraction(frame_milliseconds(source)).limit_denominator(1000)
        self.time_base = 1 / self.rate

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order. If one cannot be decoded, ``broken`` says why."""
        try:
            for number, address in enumerate(self.source.addresses()):
                image, spacing = read_frame(address)
                yield Frame(str(number), image, number, spacing=spacing)
        except BrokenFile as error:
            self.broken = str(error)


class SegWriter:
    """Write ``seg/NAME.dcm`` for sources, as the settings say; without ``--seg`` nothing."""

    def __init__(self, network: Network, settings: Settings) -> None:
        self.folder, self.segments = settings.output_dir / "seg", None
        if settings.seg:
            description = network.description
            codes = read_codes(settings.seg, max(description.out_channels - 1, 1), settings.seg_codes)
            sha256 = description.weights_sha256 or hashlib.sha256(settings.model.read_bytes()).hexdigest()
            self.segments = Segments(codes, sha256, settings.labelmap)

    def path(self, source: Source) -> Path | None:
        """Return the path of the SEG of a source; None if none is written."""
        return self.folder / f"{source.name}.dcm" if self.segments else None

    def write(self, source: Source, masks: Sequence[np.ndarray], broken: list[str]) -> None:
        """Write the masks of all frames of a source. If its header does not allow that, ``broken`` says why."""
        if self.segments:
            try:
                write_seg(self.folder / f"{source.name}.dcm", source, masks, self.segments)
            except BrokenFile as error:
                broken.append(str(error))
