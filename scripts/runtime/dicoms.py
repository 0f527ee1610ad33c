# SPDX-License-Identifier: Apache-2.0
"""DICOM sources of several frames as videos."""

from collections.abc import Iterator
from fractions import Fraction

from unetv2_monai.core.dicom import Source, frame_milliseconds
from unetv2_monai.core.dicom_pixels import read_frame
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.frames import Frame


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
