# SPDX-License-Identifier: Apache-2.0
"""What segment.py makes of containers, interlaced frames and colours."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ..conftest import read_table
from ..support.exported import description, write_bright
from ..support.segmenting import segment, write_video

pytest.importorskip("av")

import av

from unetv2_monai.core.video import Video

from .test_segment_video import HEIGHT, WIDTH, pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_bright(tmp_path_factory.mktemp("model") / "model.xml", description((HEIGHT, WIDTH)))


@pytest.mark.parametrize("name", ["late.mkv", "late.nut", "late.mp4", "late.avi", "lasting.mkv"])
def test_whole_files_are_not_called_broken(name, model, tmp_path):
    """The first frame is at 5 s, or the last one lasts 3 s."""
    times, lasting = (range(125, 150), 1) if "late" in name else (range(25), 75)
    video = write_video(tmp_path / name, pictures(25), times, codec="mpeg4", lasting=lasting)
    segment(model, video, "--output_dir", tmp_path / "out")
    seconds = [float(row["seconds"]) for row in read_table(tmp_path / "out" / f"{video.stem}.csv")]
    assert len(seconds) == 25
    assert np.diff(seconds)[1:] == pytest.approx(0.04)  # in AVI, the first frame then lasts 5 s


@pytest.mark.parametrize(("name", "kept"), [("clip.avi", 55), ("late.mkv", 40), ("late.nut", 40)])
def test_cut_between_two_frames(name, kept, tmp_path):
    times = range(125, 185) if "late" in name else range(60)
    video = write_video(tmp_path / name, pictures(60), times, codec="mpeg4")
    with av.open(str(video)) as container:
        place = [packet.pos for packet in container.demux(video=0)][kept]
    video.write_bytes(video.read_bytes()[:place])
    reader = Video(str(video))
    assert kept - 2 <= len(list(reader.frames())) <= kept
    assert reader.broken


def test_raw_dv(model, tmp_path, capsys):
    """Interlaced, of pixels 16/15 as wide as high, at a rate that FFmpeg gives as 60000 frames a second; then cut."""
    images = pictures(12, 576, 720)
    for image, later in zip(images[::2], images[1::2]):
        image[::2] = later[::2]  # in DV, the odd rows are the earlier ones
    video = write_video(tmp_path / "clip.dv", images[::2], codec="dvvideo", aspect=Fraction(16, 15))
    combs = [np.abs(np.diff(frame.image[24:32].astype(int), axis=0)).mean() for frame in Video(str(video)).frames()]
    assert len(combs) == 6
    assert np.abs(np.diff(images[4][24:32].astype(int), axis=0)).mean() == pytest.approx(190 * 8 / 720)
    assert max(combs[1:-1]) < 190 / 720
    segment(model, video, "--output_dir", tmp_path / "out")
    assert "clip.dv is interlaced" in capsys.readouterr().err
    with av.open(str(tmp_path / "out" / "clip_overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.sample_aspect_ratio) == (25, Fraction(16, 15))
        assert stream.duration * stream.time_base == Fraction(6, 25)
    video.write_bytes(video.read_bytes()[:-70_000])
    reader = Video(str(video))
    assert len(list(reader.frames())) == 5
    assert "broken after 5 frames" in reader.broken


@pytest.mark.parametrize(
    ("width", "tag", "matrix", "color", "said"),
    [
        (1280, 2, None, (200, 60, 50), True), (1280, 2, "bt601", (187, 45, 52), False),
        (1280, 1, "bt601", (200, 60, 50), False), (160, 2, None, (187, 45, 52), False),
        (160, 2, "bt709", (200, 60, 50), False),
    ],
)  # fmt: skip
def test_colour_matrix(width, tag, matrix, color, said, tmp_path, capsys):
    """Pixels in BT.709 by hand, of 200, 60, 50: in BT.601 they are 187, 45, 52."""
    y = 0.2126 * 200 + 0.7152 * 60 + 0.0722 * 50
    blue, red = (50 - y) / 1.8556, (200 - y) / 1.5748
    values = [round(16 + y * 219 / 255), round(128 + blue * 224 / 255), round(128 + red * 224 / 255)]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 96, "yuv444p"
        stream.codec_context.colorspace = tag
        planes = np.array(values, np.uint8)[:, None, None].repeat(96, 1).repeat(width, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv444p")))
        container.mux(stream.encode(None))
    (frame,) = Video(str(tmp_path / "clip.mkv"), matrix).frames()
    assert frame.image[40, 80].astype(int) == pytest.approx(color, abs=2)
    assert ("read as BT.709" in capsys.readouterr().err) == said
