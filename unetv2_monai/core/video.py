# SPDX-License-Identifier: Apache-2.0
"""Read videos and cameras as upright RGB frames with their times, and write a video of frames at given times."""

import contextlib
import errno
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from tqdm import tqdm

from .errors import BrokenFile, InputError
from .files import refuse_waiting, refusing
from .frames import CAMERA, Frame
from .listing import IMAGE_ENDINGS

# this has less error than superfast at 23, in two thirds of its time and 1.5 to 2.2 times its size
CODEC, CODEC_OPTIONS = "libx264", {"preset": "ultrafast", "crf": "19", "x264-params": "subme=1"}
ERRORS = (av.FFmpegError, OSError, ValueError)  # that PyAV raises for files
BT709, UNTAGGED = 1, 2  # numbers of colour matrices in a stream
MATRICES = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}
# FFmpeg also reads texts, single images and playlists as videos; a playlist may name files elsewhere, or never end
FORMATS = (
    "avi,dv,mov,matroska,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,ivf,vc1,flv,asf,ogg,mxf,gxf,nut,mjpeg,yuv4mpegpipe,rm"
)
STILL = ("avif", "heic", "heix", "mif1")  # brands of images in the container of MP4
FROM_ZERO = ("matroska,webm", "asf", "nut")  # announce the time of their end; others, their length
MOST_RATE = 1000  # frames a second; raw DV has an average of 60000


class Video:
    """A video file, or a camera ``camera:0``.

    ``rate`` is the average number of frames per second; times are multiples of ``time_base`` seconds; ``expected`` is
    the number of frames or None; ``aspect`` is the width of an upright pixel divided by its height, or None, and known
    from the first frame on. ``matrix``, a key of ``MATRICES``, is for videos that do not state their own. Raises
    BrokenFile if the source cannot be opened, or no decoder for it is installed.
    """

    def __init__(self, source: str, matrix: str | None = None) -> None:
        self.source, self.matrix = source, matrix
        if not source.startswith(CAMERA):
            refuse_waiting(source)
        try:
            self.container: Any = _open_camera(source) if source.startswith(CAMERA) else _open_file(source)
        except ERRORS as error:
            raise BrokenFile(f"{source}: cannot be read as a video ({_reason(error)})") from error
        if not self.container.streams.video:
            raise BrokenFile(f"{source}: holds no video")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            raise BrokenFile(f"{source}: no decoder for its codec is installed. Convert it to H.264.")
        self.stream.thread_type = "AUTO"
        average, guessed = self.stream.average_rate, self.stream.guessed_rate
        self.rate = (guessed if average and average > MOST_RATE else average) or guessed or Fraction(25)
        self.aspect = self.stream.sample_aspect_ratio
        self.time_base: Fraction = self.stream.time_base or 1 / self.rate
        # what the file announces, or 0; the container's duration may be that of another stream
        self.announced: int = self.stream.frames
        self.seconds = float((self.stream.duration or 0) * self.time_base)
        if not self.seconds and self.container.duration and len(self.container.streams) == 1:
            self.seconds = self.container.duration / av.time_base
        self.expected = self.announced or round(self.seconds * self.rate) or None
        self.kind: str = self.container.format.name
        self.cut = self.kind == "avi" and _lacks_bytes(source)
        self.broken = ""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in display order, with increasing times from 0. If they break off, ``broken`` says why."""
        reformatter = VideoReformatter()  # one for all frames: a new one takes time to set up
        count, first, last, size, matrix = 0, None, -1, None, None
        try:
            for decoded, progressive in self._deinterlaced(self._decode()):
                stamp = decoded.pts if decoded.pts is not None else round(count / self.rate / self.time_base)
                first = stamp if first is None else first
                last = max(stamp - first, last + 1)
                matrix = self._matrix(decoded) if count == 0 else matrix
                # PyAV 15 ignores the source's matrix where the target's is the same
                rgb = reformatter.reformat(progressive, None, None, "rgb24", matrix, Colorspace.ITU601)
                image, turned = _upright(rgb.to_ndarray(), decoded)
                if turned and self.aspect and count == 0:
                    self.aspect = 1 / self.aspect
                if size not in (None, image.shape):
                    raise BrokenFile(f"the size changes at frame {count}. Cut it there.")
                size = image.shape
                yield Frame(str(count), image, last)
                count += 1
            if self.failure:
                raise self.failure
            if first is None:
                raise BrokenFile("holds no frame that can be read")
            end = last + (decoded.duration or 1) + (first if self.kind in FROM_ZERO else 0)
            self._refuse_shorter(count, float(end * self.time_base))
        except BrokenFile as error:
            self.broken = f"{self.source}: {error}"
        except ERRORS as error:
            self.broken = f"{self.source}: broken after {count} frames ({_reason(error)})"
        finally:
            self.container.close()

    def _decode(self) -> Iterator[Any]:
        """Yield frames until the end or a ``failure``, then those that the decoder still holds."""
        self.failure: Exception | None = None
        try:
            for packet in self.container.demux(self.stream):
                # the last frame of a cut file of raw DV is filled up with what the memory holds
                beyond = self.kind == "dv" and (packet.pos or 0) + packet.size > self.container.size
                if packet.is_corrupt or beyond:
                    self.failure = ValueError("its data ends early")
                    break
                yield from packet.decode()
        except ERRORS as error:
            self.failure = error
        if self.failure:
            with contextlib.suppress(*ERRORS):
                yield from self.stream.codec_context.decode(None)

    def _deinterlaced(self, frames: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each frame with itself or, from the first interlaced one on, with a progressive one."""
        for _, group in groupby(frames, lambda frame: (frame.width, frame.height, frame.format.name)):
            graph: Any = None  # of one format: filters may crash when it changes
            waiting: deque[Any] = deque()
            for frame in chain(group, [None]):
                if graph is None and frame and frame.interlaced_frame:
                    graph = _deinterlacer(frame, self.time_base)
                    tqdm.write(f"{self.source} is interlaced. Its frames are deinterlaced.", file=sys.stderr)
                if graph is None:
                    yield from [(frame, frame)] if frame else []
                    continue
                waiting.append(frame)
                graph.push(frame)  # None: the end
                with contextlib.suppress(av.BlockingIOError, av.EOFError):  # it waits for the next frame, or has ended
                    while made := graph.pull():
                        yield waiting.popleft(), made

    def _matrix(self, frame: Any) -> Colorspace | None:
        """Return the colour matrix of a video that states none, chosen as players do; None if it states one."""
        if frame.colorspace != UNTAGGED or frame.format.is_rgb or len(frame.format.components) < 3:
            return None
        hd = frame.width >= 1280 or frame.height > 576
        if self.matrix is None and hd:
            text = "states no colour matrix. It is HD, so it is read as BT.709, unless by --color_matrix bt601."
            tqdm.write(f"{self.source} {text}", file=sys.stderr)
        return MATRICES[self.matrix or ("bt709" if hd else "bt601")]

    def _refuse_shorter(self, count: int, seconds: float) -> None:
        """Refuse a video that ends before the length that its container announces. An MP4 that was trimmed by an edit
        list is accepted: frames are missing, but its duration is right.
        """
        missing = self.announced - count if self.announced else 0
        slack = 2 / float(self.rate) if self.announced else max(0.5, 2 / float(self.rate))
        early = self.seconds - seconds > slack
        broken = missing > 0 and (early or self.cut or not self.seconds) if self.announced else early
        if broken and not self.source.startswith(CAMERA):
            whole = f"{self.announced} frames" if missing > 0 else f"{self.seconds:.1f} s"
            raise BrokenFile(f"ends after {count} frames ({seconds:.1f} s), but announces {whole}")


class VideoWriter:
    """Write an H.264 video in MP4, without sound. Frames of odd width or height keep their size, since colours are not
    subsampled then. ``aspect``: width of a pixel divided by its height, if not 1.

    The constructor and the methods raise InputError when there is no encoder or the file cannot be written.
    """

    def __init__(
        self, path: Path, size: tuple[int, ...], rate: Fraction, time_base: Fraction, aspect: Fraction | None = None
    ) -> None:
        height, width = size
        if CODEC not in av.codecs_available:
            raise InputError(f"this PyAV has no encoder {CODEC}. Install the one of requirements-runtime.txt.")
        self.path = path
        with refusing(path):
            self.container: Any = av.open(str(path), "w", format="mp4")
        stream: Any = self.container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        self.stream, self.reformatter = stream, VideoReformatter()
        context = stream.codec_context
        context.time_base = self.time_base = time_base
        if aspect:
            context.sample_aspect_ratio = aspect
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
        with refusing(self.path), self.container:
            self.container.mux(self.stream.encode(None))


def _open_file(source: str) -> Any:
    try:
        container: Any = av.open(f"file:{source}", options={"format_whitelist": FORMATS})
    except ERRORS as error:
        if getattr(error, "errno", None) == errno.EINVAL:  # not in the list
            raise ValueError(f"no MP4, MKV, AVI or the like; images are {' '.join(IMAGE_ENDINGS)}") from error
        raise
    if container.metadata.get("major_brand") in STILL:
        raise ValueError("it is a single image. Convert it to PNG.")
    return container


def _open_camera(source: str) -> Any:
    number = source.removeprefix(CAMERA)
    if not number.isdecimal():
        raise ValueError(f"a camera is named {CAMERA}0, by its number")
    if sys.platform == "darwin":
        return av.open(number, format="avfoundation")
    return av.open(f"/dev/video{number}", format="v4l2")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _lacks_bytes(path: str) -> bool:
    """Tell whether an AVI file is shorter than it states. FFmpeg estimates its length from what is left."""
    end, size = 0, os.path.getsize(path)
    with open(path, "rb") as opened:
        while end < size and opened.seek(end) == end and opened.read(4) == b"RIFF":  # large files have several
            end += 8 + int.from_bytes(opened.read(4), "little")
    return end > size


def _upright(image: np.ndarray, frame: Any) -> tuple[np.ndarray, bool]:
    """Turn and mirror an image as its frame says. Also tell whether width and height were exchanged."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image, False
    across, down, _, across_y, down_y = np.frombuffer(matrix, np.int32)[:5].tolist()
    if turned := abs(down) > abs(across):
        image, across, down_y = image.swapaxes(0, 1), across_y, down
    return np.ascontiguousarray(image[:: -1 if down_y < 0 else 1, :: -1 if across < 0 else 1]), turned


def _deinterlacer(frame: Any, time_base: Fraction) -> Any:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph
