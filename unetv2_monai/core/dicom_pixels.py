# SPDX-License-Identifier: Apache-2.0
"""Decode frames of DICOM files: to RGB as they are meant to be seen, or to the values of a volume."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from .dicom import VIDEO_SYNTAXES, Source, group, located, spacing_of
from .errors import BrokenFile

DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles of grey values that become black and white where a file states no window
GREY, COLORS = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def read_frame(address: str | Path) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return the frame at an address as uint8 RGB (height, width, 3), and its pixels' width and height in mm if known.

    Raises:
        BrokenFile: when the frame cannot be decoded, or has colours of more than 8 bits.
    """
    place = located(address)
    path, index = place or (Path(address), 0)
    with _naming(Path(address).name):
        opened = _opened(path, path.stat().st_mtime_ns)
        if place is None and int(opened.header.get("NumberOfFrames") or 1) > 1:
            raise BrokenFile(f"holds {opened.header.NumberOfFrames} frames, not one image")
        return opened.rgb(index), spacing_of(opened.header, index)


def read_series(source: Source) -> np.ndarray:
    """Return the values of a volume (column, row, slice) in float32, such as Hounsfield units; raise BrokenFile."""
    with _naming(source.name):
        slices = [_opened(path, path.stat().st_mtime_ns).values(index).T for path, index in source.places]
        return np.stack(slices, axis=-1)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn every error into a BrokenFile of one line that names what is read."""
    try:
        yield
    except BrokenFile as error:
        raise BrokenFile(f"{name}: {error}") from error
    except Exception as error:  # decoders raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BrokenFile(f"{name}: cannot be decoded ({reason})") from error


class _Opened:
    """A DICOM file, and the decoder of its frames."""

    def __init__(self, path: Path) -> None:
        import pydicom

        self.header = pydicom.dcmread(path)
        if "PixelData" not in self.header:
            raise BrokenFile("holds no pixel data")
        self.video: Iterator[np.ndarray] = iter(())
        self.at, self.image = -1, np.zeros(0)

    def rgb(self, index: int) -> np.ndarray:
        """Return a frame as uint8 RGB."""
        if self.header.file_meta.TransferSyntaxUID in VIDEO_SYNTAXES:
            return self._video_frame(index)
        kind = self.header.get("PhotometricInterpretation")
        if kind in GREY:
            grey = self._grey(index)
            grey = 255 - grey if kind == "MONOCHROME1" else grey
            return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
        if kind == "PALETTE COLOR":
            from pydicom.pixels import apply_color_lut

            table = apply_color_lut(np.arange(2**self.header.BitsStored, dtype=np.uint16), self.header)
            table = table if table.max() < 256 else table >> 8  # of 16 bits
            return table.astype(np.uint8)[self._decoded(index)]
        if kind not in COLORS:
            raise BrokenFile(f"its colours are in {kind}. Convert it to RGB.")
        if self.header.BitsAllocated != 8:
            raise BrokenFile(f"holds colours of {self.header.BitsStored} bits. Convert it to 8 bits for each colour.")
        return self._decoded(index)

    def values(self, index: int) -> np.ndarray:
        """Return the values of a frame in grey, scaled as the file states, in float32."""
        if self.header.get("PhotometricInterpretation") not in GREY:
            raise BrokenFile("holds colours, but a volume has one value for each voxel")
        from pydicom.pixels import apply_modality_lut

        scaling = group(self.header, index, "PixelValueTransformationSequence")
        return apply_modality_lut(self._decoded(index), scaling).astype(np.float32)

    def _decoded(self, index: int) -> np.ndarray:
        """Return a frame as it is stored, colours as RGB."""
        from pydicom.pixels import get_decoder, pixel_array
        from pydicom.uid import JPEGExtended12Bit

        syntax = self.header.file_meta.TransferSyntaxUID
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError as error:
            raise BrokenFile(f"its transfer syntax {syntax} is none that pixels are decoded from") from error
        if not decoder.is_available:
            raise BrokenFile(f"no decoder for its transfer syntax {syntax} ({syntax.name}) is installed. Convert it.")
        # GDCM takes twice the time of the others, but alone reads JPEG Lossless and JPEG of 12 bits
        others = [name for name in decoder.available_plugins if name != "gdcm" and syntax != JPEGExtended12Bit]
        return pixel_array(self.header, index=index, decoding_plugin=others[0] if others else "")

    def _grey(self, index: int) -> np.ndarray:
        """Return a frame in 0 to 255, by its window or table, else by its type or percentiles."""
        values = self.values(index).astype(np.float64)
        display = group(self.header, index, "FrameVOILUTSequence")
        if "WindowCenter" in display and "WindowWidth" in display:
            center, width = (float(np.ravel(display[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
            return windowed(values, center, width, str(display.get("VOILUTFunction") or "LINEAR"))
        if "VOILUTSequence" in display:
            from pydicom.pixels import apply_voi

            bits = int(display.VOILUTSequence[0].LUTDescriptor[2])
            return apply_voi(self._decoded(index), display) * 255.0 / (2**bits - 1)
        if self.header.BitsStored <= 8 and values.min() >= 0 and values.max() <= 255:
            return values * 255 / (2**self.header.BitsStored - 1)
        return stretched(values)[0]

    def _video_frame(self, index: int) -> np.ndarray:
        """Return a frame of a video. Frames are decoded in order, and again from the first one if one goes back."""
        if index < self.at or self.at < 0:
            self.video, self.at = self._video(), -1
        while self.at < index:
            self.image, self.at = next(self.video), self.at + 1
        return self.image

    def _video(self) -> Iterator[np.ndarray]:
        from pydicom.encaps import generate_frames

        from .video import Video

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video"  # a name without patient data
            file.write_bytes(b"".join(generate_frames(self.header.PixelData, number_of_frames=1)))
            video, count = Video(str(file)), 0
            for frame in video.frames():
                yield frame.image
                count += 1
            reason = video.broken.partition(": ")[2] if video.broken else "it holds no more"
            raise BrokenFile(f"its video ends after {count} of {self.header.NumberOfFrames} frames ({reason})")


def stretched(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Return values from 0 to 255 by their percentiles, and the values that became black and white."""
    low, high = map(float, np.percentile(values, (DARKEST, BRIGHTEST)))
    return (255 * (values - low) / max(high - low, 1e-9)).clip(0, 255), (low, high)


def windowed(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Return values from 0 to 255 by a window, as DICOM (part 3, C.11.2.1) defines its functions."""
    if function == "SIGMOID":
        return 255 / (1 + np.exp(-4 * (values - center) / width))
    shift = 0 if function == "LINEAR_EXACT" else 0.5
    return (255 * ((values - center + shift) / max(width - 2 * shift, 1e-9) + 0.5)).clip(0, 255)


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> _Opened:
    return _Opened(path)
