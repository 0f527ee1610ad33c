# SPDX-License-Identifier: Apache-2.0
"""Read videos and cameras as upright RGB frames with their times, and write a video of frames at given times."""

import contextlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from unetv2_monai.core.errors import BrokenFile, InputError
from unetv2_monai.core.files import refusing

from .frames import CAMERA, Frame

# superfast at 23 has the error of veryfast at 20, in two thirds of its time and 1.4 times its size
CODEC, CODEC_OPTIONS = "libx264", {"preset": "superfast", "crf": "23"}
ERRORS = (av.FFmpegError, OSError, ValueError)  # that PyAV raises for files
BT709 = 1  # number of the colour space in a stream


class Video:
    """
    A video file, or a camera ``camera:0``.

    ``rate`` is the average number of frames per second; times are multiples of ``time_base`` seconds; ``expected`` is
    the number of frames or None. Raises BrokenFile if the source cannot be opened, or no decoder for it is installed.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self.container: Any = _open_camera(source) if source.startswith(CAMERA) else av.open(source)
        except ERRORS as error:
            raise BrokenFile(f"{source}: cannot be read as a video ({_reason(error)})") from error
        if not self.container.streams.video:
            raise BrokenFile(f"{source}: holds no video")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            raise BrokenFile(f"{source}: no decoder for its codec is installed. Convert it to H.264.")
        self.stream.thread_type = "AUTO"
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base: Fraction = self.stream.time_base or 1 / self.rate
        # what the file announces, or 0; the container's duration may be that of another stream
        self.announced: int = self.stream.frames
        self.seconds = float((self.stream.duration or 0) * self.time_base)
        if not self.seconds and self.container.duration and len(self.container.streams) == 1:
            self.seconds = self.container.duration / av.time_base
        self.expected = self.announced or round(self.seconds * self.rate) or None
        self.broken = ""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in display order, with increasing times from 0. If they break off, ``broken`` says why."""
        reformatter = VideoReformatter()  # one for all frames: a new one takes time to set up
        count, first, last, size = 0, None, -1, None
        try:
            for decoded in self._decode():
                stamp = decoded.pts if decoded.pts is not None else round(count / self.rate / self.time_base)
                first = stamp if first is None else first
                last = max(stamp - first, last + 1)
                image: np.ndarray = reformatter.reformat(decoded, format="rgb24").to_ndarray()
                if turns := round(decoded.rotation / 90) % 4:
                    image = np.ascontiguousarray(np.rot90(image, turns))
                if size not in (None, image.shape):
                    raise BrokenFile(f"the size changes at frame {count}. Cut it there.")
                size = image.shape
                yield Frame(str(count), image, last)
                count += 1
            if count == 0:
                raise BrokenFile("holds no frame that can be read")
            self._refuse_shorter(count, float((last + 1) * self.time_base))
        except BrokenFile as error:
            self.broken = f"{self.source}: {error}"
        except ERRORS as error:
            self.broken = f"{self.source}: broken after {count} frames ({_reason(error)})"
        finally:
            self.container.close()

    def _decode(self) -> Iterator[Any]:
        failure: Exception | None = None
        try:
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt:
                    failure = ValueError("its data ends early")
                    break
                yield from packet.decode()
        except ERRORS as error:
            failure = error
        if failure is not None:  # yield the frames that the decoder still holds
            with contextlib.suppress(*ERRORS):
                yield from self.stream.codec_context.decode(None)
            raise failure

    def _refuse_shorter(self, count: int, seconds: float) -> None:
        """
        Refuse a video that ends before the length that its container announces. An MP4 that was trimmed by an edit list
        is accepted: frames are missing, but its duration is right.
        """
        missing = self.announced - count if self.announced else 0
        slack = 2 / float(self.rate) if self.announced else max(0.5, 2 / float(self.rate))
        early = self.seconds - seconds > slack
        broken = missing > 0 and (early or not self.seconds) if self.announced else early
        if broken and not self.source.startswith(CAMERA):
            whole = f"{self.announced} frames" if missing > 0 else f"{self.seconds:.1f} s"
            raise BrokenFile(f"ends after {count} frames ({seconds:.1f} s), but announces {whole}")


class VideoWriter:
    """
    Write an H.264 video in MP4, without sound. Frames of odd width or height keep their size, since colours are not
    subsampled then.

    The constructor and the methods raise InputError when there is no encoder or the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, ...], rate: Fraction, time_base: Fraction) -> None:
        height, width = size
        if CODEC not in av.codecs_available:
            raise InputError(f"this PyAV has no encoder {CODEC}. Install the one of requirements-runtime.txt.")
        self.path = path
        with refusing(path):
            self.container: Any = av.open(str(path), "w", format="mp4")
        stream: Any = self.container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        self.stream = stream
        self.reformatter = VideoReformatter()
        context = stream.codec_context
        context.time_base = self.time_base = time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709

    def add(self, image: np.ndarray, time: int) -> None:
        """Encode an image (height, width, 3) of 0 to 255. Its time must be later than that of the frame before."""
        shared = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")  # not copied
        frame: Any = self.reformatter.reformat(shared, format=self.stream.pix_fmt, dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = time, self.time_base
        with refusing(self.path):
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        with refusing(self.path):
            try:
                self.container.mux(self.stream.encode(None))
            finally:
                self.container.close()


def _open_camera(source: str) -> Any:
    number = source.removeprefix(CAMERA)
    if not number.isdecimal():
        raise ValueError(f"a camera is named {CAMERA}0, by its number")
    if sys.platform == "darwin":
        return av.open(number, format="avfoundation")
    return av.open(f"/dev/video{number}", format="v4l2")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
