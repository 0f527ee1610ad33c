# SPDX-License-Identifier: Apache-2.0
"""
The work of segment.py. Threads work at the same time, each on other frames: one decodes, one prepares and starts the
network (which has threads of its own), one makes masks and overlays, and the main one writes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.overlay import PREDICTION_COLOR, outlined
from PIL import Image
from tqdm import tqdm

from .files import BrokenFile, InputError, Table, ahead, atomic, refusing
from .images import IMAGE_ENDINGS, duplicates, list_images, read_image
from .masks import Finding, measure, probabilities, to_mask
from .network import Frame, Network, Segmented

__all__ = ["Settings", "segment"]

AHEAD = 4  # frames between two threads
ROTATED = range(5, 9)  # EXIF orientations that exchange width and height


@dataclass(frozen=True)
class Settings:
    """The options of segment.py, as its ``--help`` describes them."""

    model: Path
    inputs: list[str]
    output_dir: Path
    opacity: float = 0.3
    no_overlays: bool = False
    video_masks: bool = False
    skip_finished: bool = False
    precision: str = "f32"
    certainty: float | None = None
    smoothing: float = 0.0
    presence: tuple[float, float] | None = None


@dataclass(frozen=True)
class Drawn:
    """
    Args:
        frame: what was segmented.
        mask: class indices.
        overlay: the image with the mask on it; None if none is asked for.
        row: of the table, without the name.
    """

    frame: Frame
    mask: np.ndarray
    overlay: np.ndarray | None
    row: list[str]


def segment(settings: Settings) -> None:
    """
    Raises:
        InputError: when an input is missing; or, after all others are done, for those that cannot be read.
    """
    images, videos = _sort_inputs(settings)
    network = Network(settings.model, settings.precision, several=len(images) > 1 or bool(videos))
    if settings.certainty is not None:
        network.description = dataclasses.replace(network.description, certainty=settings.certainty)
    broken: list[str] = []
    if images:
        count = _segment_images(images, network, settings, broken)
        print(count, "masks written to", settings.output_dir)
    for video in videos:
        if count := _segment_video(video, network, settings, broken):
            print(f"{count} frames of {video} written to {settings.output_dir}")
    if broken:
        lines = "\n  ".join(broken)
        raise InputError(f"{len(broken)} files could not be read, the others are done:\n  {lines}")


def _sort_inputs(settings: Settings) -> tuple[list[Path], list[str]]:
    """The images and the videos."""
    images: list[Path] = []
    videos: list[str] = []
    for text in settings.inputs:
        path = Path(text)
        if path.is_dir():
            images += list_images(path)
        elif not path.exists() and not text.startswith("camera:"):
            raise InputError(f"{text} does not exist.")
        elif path.name.lower().endswith(IMAGE_ENDINGS):
            images.append(path)
        else:
            videos.append(text)
    problems = duplicates(images) + duplicates(map(Path, videos))
    if problems:
        raise InputError("outputs would overwrite each other:\n  " + "\n  ".join(problems))
    if any(path.parent.resolve() == settings.output_dir.resolve() for path in images):
        raise InputError(
            f"--output_dir {settings.output_dir} holds the images, which masks would overwrite: name another."
        )
    return images, videos


def _draw(segmented: Iterable[Segmented], network: Network, settings: Settings, is_video: bool) -> Iterator[Drawn]:
    """Masks, overlays and rows of the table; of a video with what was seen before."""
    description, before, present = network.description, None, False
    for one in segmented:
        image = one.frame.image
        probability = probabilities(one.logits)
        if is_video and settings.smoothing and before is not None:
            probability = settings.smoothing * before + (1 - settings.smoothing) * probability
        before = probability
        mask = to_mask(probability, image.shape[:2], description)
        found = measure(mask, probability, description)
        if is_video and settings.presence:
            present = found.probability >= settings.presence[1 if present else 0]
            if not present:
                mask = np.zeros_like(mask)
                found = measure(mask, probability, description)
        overlay = None
        if not settings.no_overlays:
            overlay = outlined(image, mask > 0, PREDICTION_COLOR, settings.opacity)
        yield Drawn(one.frame, mask, overlay, _row(found, one.milliseconds))


def _columns(network: Network) -> list[str]:
    classes = network.description.classes[1:]
    each = [f"area {name}" for name in classes] if len(classes) > 1 else []
    return ["lesion", "area", "probability", "left", "top", "width", "height", "ms", *each]


def _row(found: Finding, milliseconds: float) -> list[str]:
    each = [f"{share:.6f}" for share in found.areas] if len(found.areas) > 1 else []
    box = [str(value) for value in found.box or [""] * 4]
    return [str(int(found.lesion)), f"{found.area:.6f}", f"{found.probability:.4f}", *box, f"{milliseconds:.1f}", *each]


def _save_mask(mask: np.ndarray, path: Path, network: Network) -> None:
    with atomic(path) as partial:
        values = mask * 255 if network.description.threshold is not None else mask
        Image.fromarray(values).save(partial, compress_level=1)


def _segment_images(paths: list[Path], network: Network, settings: Settings, broken: list[str]) -> int:
    output_dir, overlays = settings.output_dir, settings.output_dir / "overlays"
    table = Table(output_dir / "images.csv", ["file", *_columns(network)], settings.skip_finished)

    def finished(path: Path) -> bool:
        mask, overlay = output_dir / f"{path.stem}.png", overlays / f"{path.stem}.jpg"
        complete = path.name in table.rows and (settings.no_overlays or overlay.is_file())
        size = _size(mask)
        return complete and size is not None and size == _size(path)

    def read() -> Iterator[Frame]:
        for path in todo:
            try:
                yield Frame(path.name, read_image(path))
            except BrokenFile as error:
                broken.append(str(error))

    todo = [path for path in paths if not (settings.skip_finished and finished(path))]
    drawn = _draw(ahead(network.run(ahead(read(), AHEAD)), AHEAD), network, settings, is_video=False)
    count = 0
    with tqdm(total=len(todo), desc="Segmenting", disable=None) as bar:
        for one in ahead(drawn, AHEAD):
            stem = Path(one.frame.name).stem
            _save_mask(one.mask, output_dir / f"{stem}.png", network)
            if one.overlay is not None:
                with atomic(overlays / f"{stem}.jpg") as partial:
                    Image.fromarray(one.overlay).save(partial, quality=92)
            table.add([one.frame.name, *one.row])
            count += 1
            bar.update()
    table.finish(order=[path.name for path in paths])
    return count


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright image; None if it cannot be read."""
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            return (height, width) if opened.getexif().get(274) in ROTATED else (width, height)
    except Exception:  # image decoders raise almost anything
        return None


def _segment_video(source: str, network: Network, settings: Settings, broken: list[str]) -> int:
    from .video import CAMERA, Video  # takes PyAV

    is_camera = source.startswith(CAMERA)
    path = settings.output_dir / (source.replace(":", "") if is_camera else Path(source).stem)
    count = 0
    try:
        if settings.skip_finished and not is_camera and VideoOutputs.are_in(path, settings):
            return 0
        video = Video(source)
        drawn = _draw(ahead(network.run(ahead(video.frames(), AHEAD)), AHEAD), network, settings, is_video=True)
        total = video.announced or round(video.seconds * video.rate) or None
        bar = tqdm(total=total, desc=path.name, unit="frame", disable=None)
        with bar, VideoOutputs(path, video, network, settings) as outputs:
            try:
                for one in ahead(drawn, AHEAD):
                    outputs.add(one)
                    count += 1
                    bar.update()
            except KeyboardInterrupt:  # the way to end a camera
                if not is_camera:
                    raise
    except BrokenFile as error:
        broken.append(str(error))
    return count


class VideoOutputs:
    """
    What is written for a video: its table, its overlay video and, if asked for, the masks of its frames. As a context,
    it gives the files their names at the end, with ``_incomplete`` in them after a :py:class:`BrokenFile`; after any
    other error it deletes them.

    Args:
        path: in the output folder, with the name of the video but no ending.
        video: what is segmented.
        network, settings: of the run.
    """

    def __init__(self, path: Path, video: Any, network: Network, settings: Settings) -> None:
        self.path, self.video, self.network, self.settings = path, video, network, settings
        self.table = Table(path.with_name(f"{path.name}.csv"), ["frame", "seconds", *_columns(network)])
        self.overlay = path.with_name(f"{path.name}_overlay.mp4")
        self.partial = self.overlay.with_name(f".partial_{self.overlay.name}")
        self.writer: Any = None

    @staticmethod
    def are_in(path: Path, settings: Settings) -> bool:
        """Whether all of them but masks are there, complete."""
        table, overlay = path.with_name(f"{path.name}.csv"), path.with_name(f"{path.name}_overlay.mp4")
        return table.is_file() and (settings.no_overlays or overlay.is_file())

    def add(self, one: Drawn) -> None:
        from .video import VideoWriter

        time = one.frame.time or 0
        if one.overlay is not None:
            with refusing(self.overlay):
                if self.writer is None:
                    self.writer = VideoWriter(self.partial, one.mask.shape, self.video.rate, self.video.time_base)
                self.writer.add(one.overlay, time)
        if self.settings.video_masks:
            _save_mask(one.mask, self.path / f"{int(one.frame.name):06d}.png", self.network)
        self.table.add([one.frame.name, f"{float(time * self.video.time_base):.3f}", *one.row])

    def __enter__(self) -> VideoOutputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None or (issubclass(kind, BrokenFile) and self.table.count):
                ending = "_incomplete" if kind else ""
                if self.writer:
                    with refusing(self.overlay):
                        self.writer.close()
                        os.replace(self.partial, self.path.with_name(f"{self.path.name}{ending}_overlay.mp4"))
                self.table.finish(self.path.with_name(f"{self.path.name}{ending}.csv"))
        finally:
            self.table.discard()
            self.partial.unlink(missing_ok=True)
