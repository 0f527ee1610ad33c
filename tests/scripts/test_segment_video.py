# SPDX-License-Identifier: Apache-2.0
"""segment.py on videos: frames in are frames out, in order, at the same times and of the same size; broken files."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai.core.frames import Frame

from ..conftest import read_table
from ..support.exported import description, write_bright
from ..support.segmenting import refused, segment, segment_apart, write_video

pytest.importorskip("openvino")
pytest.importorskip("av")

import av
from runtime import clips, results
from runtime.frames import with_views
from runtime.network import Output

from unetv2_monai.core.video import Video

HEIGHT, WIDTH, SIDE = 96, 160, 16


def picture(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A bright square that moves by 4 pixels a frame, on a dark ground."""
    image = np.full((height, width, 3), 30, dtype=np.uint8)
    left = 4 * (index % 32)
    image[20 : 20 + SIDE, left : left + SIDE] = 220
    return image


def pictures(count: int, *size: int) -> list[np.ndarray]:
    return [picture(index, *size) for index in range(count)]


def noises(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3)).astype(np.uint8)


def read_video(path: Path) -> tuple[np.ndarray, list[float]]:
    """The frames of a video without sound, and their times in seconds."""
    with av.open(str(path)) as container:
        assert not container.streams.audio
        frames = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in container.decode(video=0)]
    return np.array([image for image, _ in frames]), [time for _, time in frames]


def segment_clip(model: Path, video: Path, *options: object) -> tuple[list[dict[str, str]], np.ndarray, list[float]]:
    """The table, and the frames and times of the overlay video, which are in ``out/``."""
    out = video.parent / "out"
    segment(model, video, "--output_dir", out, *options)
    return read_table(out / f"{video.stem}.csv"), *read_video(out / f"{video.stem}_overlay.mp4")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_bright(tmp_path_factory.mktemp("model") / "model.xml", description((HEIGHT, WIDTH)))


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", pictures(5))


@pytest.mark.parametrize(
    ("name", "size", "times", "pix_fmt"),
    [
        ("clip.mp4", (HEIGHT, WIDTH), range(30), "yuv420p"),
        ("clip.mkv", (HEIGHT, WIDTH), (0, 1, 2, 10, 11, 30, 31, 32), "yuv420p"),
        ("clip.mp4", (HEIGHT, WIDTH), range(5), "yuv420p10le"), ("clip.mp4", (97, 161), range(5), "yuv444p"),
        ("clip.mp4", (96, 161), range(5), "yuv444p"), ("clip.mp4", (97, 160), range(5), "yuv444p"),
    ],
    ids=["plain", "variable rate", "10 bits", "odd", "odd width", "odd height"],
)  # fmt: skip
def test_frames_in_are_frames_out_in_order(name, size, times, pix_fmt, model, tmp_path):
    video = write_video(tmp_path / name, pictures(len(times), *size), times, pix_fmt=pix_fmt)
    rows, images, found = segment_clip(model, video, "--video_masks")
    assert found == pytest.approx([time / 25 for time in times])
    assert images.shape == (len(times), *size, 3)
    assert [int(row["frame"]) for row in rows] == list(range(len(times)))
    for index, (row, image) in enumerate(zip(rows, images)):
        assert float(row["seconds"]) == pytest.approx(found[index], abs=1e-3)
        box = [int(row[key]) for key in ("left", "top", "width", "height")]
        assert box == pytest.approx([4 * index, 20, SIDE, SIDE], abs=1)
        assert float(row["area"]) == pytest.approx(SIDE**2 / (size[0] * size[1]), rel=0.1)
        assert row["lesion"] == "1"
        assert float(row["probability"]) == pytest.approx(1 / (1 + np.exp(-0.05 * (220 - 128))), abs=0.01)
        inner = image[24:32, 4 * index + 4 : 4 * index + 12].reshape(-1, 3).mean(0)
        tint = [0.7 * 220 + 0.3 * value for value in (255, 210, 40)]
        assert inner == pytest.approx(tint, abs=12)
        assert np.abs(image[60:].astype(int) - 30).max() < 12  # colours stay
    assert len(list((tmp_path / "out" / "clip").glob("*.png"))) == len(times)
    names = ["clip", "clip.csv", "clip_lesions.csv", "clip_overlay.mp4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # clockwise
        ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]), ((0, -1, 1, 0), np.rot90), ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud), ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    ],
)  # fmt: skip
def test_frames_are_turned_and_mirrored(matrix, shown, tmp_path):
    """As a telephone marks it: a matrix in the head of the track. Pixels are 4/3 as wide as high, or upright 3/4."""
    video = write_video(tmp_path / "clip.mp4", pictures(4), aspect=Fraction(4, 3))
    a, b, c, d = matrix
    matrix = struct.pack(">9i", *(value << 16 for value in (a, b, 0, c, d, 0, 0, 0, 1 << 14)))
    head, found, rest = video.read_bytes().partition(b"tkhd")
    video.write_bytes(head + found + rest[:40] + matrix + rest[76:])
    expected = shown(picture(3))
    model = write_bright(tmp_path / "model.xml", description(expected.shape[:2]))
    table, images, _ = segment_clip(model, video)
    assert images[3].shape == expected.shape
    rows, columns = np.nonzero(expected[..., 0] > 128)
    assert [int(table[3]["left"]), int(table[3]["top"])] == pytest.approx([columns.min(), rows.min()], abs=1)
    with av.open(str(tmp_path / "out" / "clip_overlay.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3) ** (-1 if b else 1)


@pytest.mark.parametrize(
    ("name", "options"), [("clip.mkv", {}), ("clip.mp4", {"movflags": "faststart"}), ("clip.avi", {})]
)
def test_truncated(name, options, model, tmp_path, capsys):
    images = [image // 2 + noise // 4 for image, noise in zip(pictures(60), noises(60))]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    video = write_video(tmp_path / name, images, codec=codec, **options)
    content = video.read_bytes()
    video.write_bytes(content[: int(0.6 * len(content))])
    other = write_video(tmp_path / "other.mp4", images[:5])
    first, second = refused(model, video, other, "--output_dir", tmp_path / "out")
    assert first == "error: 1 file could not be read, the others are done:"
    assert str(video) in second
    assert "ends after" in second or "broken after" in second
    rows = read_table(tmp_path / "out" / "clip_incomplete.csv")
    assert 20 < len(rows) < 50
    assert f"{len(rows)} frames" in second
    assert len(read_video(tmp_path / "out" / "clip_incomplete_overlay.mp4")[0]) == len(rows)
    assert not (tmp_path / "out" / "clip.csv").exists()
    assert len(read_table(tmp_path / "out" / "other.csv")) == 5
    assert "5 frames of" in capsys.readouterr().out


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


def test_an_edit_list_is_no_damage(model, tmp_path):
    """50 frames, of which the file shows 1.5 s from 0.5 s on, as lossless trimming leaves it."""
    video = write_video(tmp_path / "clip.mp4", pictures(50))
    content = bytearray(video.read_bytes())
    place = content.index(b"elst") + 12  # after version, flags and the number of entries
    scale = int.from_bytes(content[(at := content.index(b"mdhd") + 16) : at + 4], "big")
    start = int.from_bytes(content[place + 4 : place + 8], "big") + scale // 2
    content[place : place + 8] = (1500).to_bytes(4, "big") + start.to_bytes(4, "big")
    video.write_bytes(content)
    rows, _, _ = segment_clip(model, video)
    assert 36 <= len(rows) <= 38
    assert abs(int(rows[0]["left"]) - 4 * 12) <= 4


def test_unusable_videos(model, clip, tmp_path):
    """Each is named, and none is waited for."""
    matroska = write_video(tmp_path / "whole.mkv", pictures(5)).read_bytes()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "nothing.mp4").write_bytes(b"")
    (tmp_path / "head.mkv").write_bytes(matroska[: matroska.index(b"\x1f\x43\xb6\x75")])  # before the first cluster
    (tmp_path / "codec.mp4").write_bytes(clip.read_bytes().replace(b"avc1", b"zzz1"))
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    (tmp_path / "notes.txt").write_text("a line of text\n" * 2000)
    write_video(tmp_path / "part.ts", pictures(5))
    (tmp_path / "live.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.ts\n")
    Image.fromarray(picture(0)).save(tmp_path / "image.avif")
    os.mkfifo(tmp_path / "pipe.mp4")
    reasons = dict.fromkeys(("text.mp4", "nothing.mp4", "head.mkv", "camera:77"), "cannot be read as a video")
    reasons |= {"codec.mp4": "no decoder for its codec", "none.mp4": "holds no"}
    reasons |= {"notes.txt": "no MP4", "live.m3u8": "no MP4", "image.avif": "a single image", "pipe.mp4": "a pipe"}
    videos = [name if ":" in name else tmp_path / name for name in reasons]
    title, *lines = refused(model, *videos, "--output_dir", tmp_path / "out")
    assert title == "error: 10 files could not be read, the others are done:"
    assert [name in line and reason in line for line, (name, reason) in zip(lines, reasons.items())] == [True] * 10
    assert not list((tmp_path / "out").glob("*"))


def test_smoothing_and_presence(tmp_path):
    """Frames of one brightness, so that their probability is known: .9, .9, .2, .6, .6, .9."""
    brightness = [round(128 + np.log(p / (1 - p)) / 0.05) for p in (0.9, 0.9, 0.2, 0.6, 0.6, 0.9)]
    images = [np.full((HEIGHT, WIDTH, 3), value, dtype=np.uint8) for value in brightness]
    video = write_video(tmp_path / "clip.mkv", images, codec="ffv1", pix_fmt="bgr0")
    model = write_bright(tmp_path / "model.xml", description((32, 32)))

    table = [
        ((), [0.9, 0.9, 0.2, 0.6, 0.6, 0.9], [1, 1, 0, 1, 1, 1]),
        (("--smoothing", 0.5), [0.9, 0.9, 0.55, 0.575, 0.5875, 0.744], [1] * 6),
        # after .2 it is not there until .8
        (("--presence", 0.8, 0.3), [0.9, 0.9, 0.2, 0.6, 0.6, 0.9], [1, 1, 0, 0, 0, 1]),
        # there all the time, where a pixel is marked
        (("--presence", 0.8, 0.1), [0.9, 0.9, 0.2, 0.6, 0.6, 0.9], [1, 1, 0, 1, 1, 1]),
    ]
    for options, probabilities, lesions in table:
        rows, _, _ = segment_clip(model, video, *options)
        assert [float(row["probability"]) for row in rows] == pytest.approx(probabilities, abs=0.01)
        assert [int(row["lesion"]) for row in rows] == lesions


def scene(picture: tuple[slice, slice]) -> np.ndarray:
    """A frame with a picture in a black border."""
    frame = np.full((HEIGHT, WIDTH, 3), 5, dtype=np.uint8)
    frame[picture] = 150
    return frame


def test_a_clip_has_one_view_until_its_layout_changes():
    """One pixel is seen around the picture. Frames that are dark, or shaded at the right, do not change the view."""
    none, shaded, one, other = np.s_[0:0, 0:0], np.s_[10:90, 20:80], np.s_[10:90, 20:100], np.s_[10:90, 60:140]
    images = [scene(part) for part in (none, shaded, *[one, shaded, none] * 20, *[other] * 30)]
    found = list(with_views(Frame(str(index), image) for index, image in enumerate(images)))
    assert [frame.image is image for frame, image in zip(found, images)] == [True] * len(images)
    whole, first = np.s_[0:96, 0:160], np.s_[9:91, 19:101]
    expected = [whole, np.s_[9:91, 19:81], *[first] * 60, *[np.s_[9:91, 19:141]] * 24, *[np.s_[9:91, 59:141]] * 6]
    assert [frame.view for frame in found] == expected


def test_smoothing_starts_anew_with_another_view():
    one, other = (Frame("", noises(1)[0], view=np.s_[0:90, 0:stop]) for stop in (90, 80))
    values = [(one, 0.9), (one, 0.5), (other, 0.1), (other, 0.5)]
    outputs = [Output(frame, np.full((2, 2, 1), value), 0) for frame, value in values]
    assert [output.highest for output in results._smoothed(outputs, 0.5)] == pytest.approx([0.9, 0.7, 0.1, 0.3])


def stop_at(monkeypatch, name: str) -> None:
    """Ctrl-C when the frame of that number is next."""
    results = clips.results

    def stopped(*arguments):
        for result in results(*arguments):
            if result.frame.name == name:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(clips, "results", stopped)


def test_finished_videos_are_left_out(model, clip, monkeypatch):
    """A clip of another run, which was stopped, does not count as finished."""
    out = clip.parent / "out"
    segment_clip(model, clip)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    segment_clip(model, clip, "--skip_finished")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (out / "clip_overlay.mp4").unlink()
    assert len(segment_clip(model, clip, "--skip_finished")[1]) == 5
    with monkeypatch.context() as patched:
        stop_at(patched, "2")
        assert "go on with --skip_finished" in refused(model, clip, "--output_dir", out, "--certainty", 1)[0]
    assert list(out.iterdir()) == []
    rows, _, _ = segment_clip(model, clip, "--certainty", 1, "--skip_finished")
    assert [row["lesion"] for row in rows] == ["0"] * 5


def test_a_camera_ends_with_ctrl_c(model, tmp_path, monkeypatch):
    source = write_video(tmp_path / "clip.mp4", pictures(20))
    monkeypatch.setattr("unetv2_monai.core.video._open_camera", lambda name: av.open(str(source)))
    stop_at(monkeypatch, "5")
    segment(model, "camera:0", "--output_dir", tmp_path / "out")
    assert len(read_table(tmp_path / "out" / "camera0.csv")) == 5
    assert len(read_video(tmp_path / "out" / "camera0_overlay.mp4")[0]) == 5


def test_full_disk(model, tmp_path):
    """A limit on the size of files, which fails a write as a full disk does."""
    video = write_video(tmp_path / "clip.mp4", noises(40))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))"
    done = segment_apart(model, video, "--output_dir", tmp_path / "out", "--certainty", 1, before=limit)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "clip_incomplete_overlay.mp4 cannot be written (File too large)" in error
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is read from /proc")
def test_memory_stays_constant(model, tmp_path):
    peaks = []
    for count in (320, 10_016):
        video = write_video(tmp_path / f"clip_{count}.mp4", pictures(32) * (count // 32))
        peak = "import re; print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
        done = segment_apart(model, video, "--output_dir", tmp_path / "out", after=peak)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
        assert len(read_table(tmp_path / "out" / f"clip_{count}.csv")) == count
    assert peaks[1] - peaks[0] < 20, peaks  # MiB
