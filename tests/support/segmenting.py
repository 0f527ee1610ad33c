# SPDX-License-Identifier: Apache-2.0
"""segment.py as a function and as a program, what it reads and what it writes."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import ROOT, read_table, script
from .workflow import run


def segment(*arguments: object) -> None:
    command = script("segment")
    command.run(lambda: command.main([str(argument) for argument in arguments]))


def refused(*arguments: object) -> list[str]:
    """The lines of the sentence that it ends with."""
    with pytest.raises(SystemExit) as info:
        segment(*arguments)
    return str(info.value).splitlines()


def segment_apart(*arguments: object, before: str = "", after: str = "") -> subprocess.CompletedProcess:
    """In a process of its own, with lines of Python before and after it."""
    code = f"import sys; sys.path.insert(0, 'scripts'); import segment\n{before}\nsegment.run(segment.main)\n{after}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def compare_with_bundle(model: Path, images: Path, folder: Path, configs: list[str], **options) -> list[dict[str, str]]:
    """The table of segment.py, whose masks must be those of ``run inference``: a Dice coefficient of 0.999 each."""
    run(configs, "inference", dataset_dir=str(images), output_dir=str(folder / "bundle"), **options)
    segment(model, images, "--output_dir", folder / "out")
    names = {path.name for path in (folder / "bundle").glob("*.png")}
    assert names == {path.name for path in (folder / "out").glob("*.png")}
    for name in names:
        with Image.open(folder / "bundle" / name) as one, Image.open(folder / "out" / name) as other:
            assert (one.size, one.mode) == (other.size, other.mode)
            a, b = np.asarray(one), np.asarray(other)
        both, either = np.sum((a > 0) & (a == b)), np.sum(a > 0) + np.sum(b > 0)
        assert either == 0 or 2 * both / either >= 0.999, name
    return read_table(folder / "out" / "images.csv")


def blobs(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def framed(width: int, height: int, seed: int) -> Image.Image:
    """Blobs in the black frame of an endoscope."""
    frame = Image.new("RGB", (width, height), (4, 4, 6))
    frame.paste(blobs(width // 2, height * 3 // 4, seed), (width * 3 // 8, 4))
    return frame


def draw_cases(folder: Path, count: int, width: int = 40, height: int = 30) -> Path:
    """``case_0.png`` and so on."""
    folder.mkdir()
    for index in range(count):
        blobs(width, height, index).save(folder / f"case_{index}.png")
    return folder


def write_video(
    path: Path,
    images: Sequence[np.ndarray] | np.ndarray,
    times: Sequence[int] = (),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    aspect: Fraction = Fraction(1),
    lasting: int = 0,
    **options: str,
) -> Path:
    """Of 25 frames a second; ``times`` are in units of 1 / 25 s, ``lasting`` that of the last frame."""
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "8"} if codec == "libx264" else {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = pix_fmt, 4_000_000  # libx264 goes by its crf
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.sample_aspect_ratio = aspect
        packets = []
        for image, at in zip(images, times or range(len(images))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets[-1].duration = lasting or packets[-1].duration
        container.mux(packets)
    return path
