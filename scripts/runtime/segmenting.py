# SPDX-License-Identifier: Apache-2.0
"""The work of segment.py: which inputs there are, and images from file to mask, overlay and table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .drawing import AHEAD, Settings, columns, draw, save_mask
from .files import BrokenFile, InputError, Table, ahead, atomic
from .images import IMAGE_ENDINGS, Frame, duplicates, list_images, read_image
from .memory import keep_memory
from .network import Network

__all__ = ["segment"]

ROTATED = range(5, 9)  # EXIF orientations that exchange width and height


def segment(settings: Settings) -> None:
    """
    Raises:
        InputError: when an input is missing; or, after all others are done, for those that cannot be read.
    """
    images, videos = _sort_inputs(settings)
    keep_memory()
    network = Network(settings.model, settings.precision, several=len(images) > 1 or bool(videos))
    if settings.certainty is not None:
        network.description = dataclasses.replace(network.description, certainty=settings.certainty)
    broken: list[str] = []
    if images:
        count = _segment_images(images, network, settings, broken)
        print(count, "masks written to", settings.output_dir)
    if videos:
        segment_video = _with_pyav()
    for video in videos:
        if count := segment_video(video, network, settings, broken):
            print(f"{count} frames of {video} written to {settings.output_dir}")
    if broken:
        files, lines = "file" if len(broken) == 1 else "files", "\n  ".join(broken)
        raise InputError(f"{len(broken)} {files} could not be read, the others are done:\n  {lines}")


def _with_pyav() -> Callable[[str, Network, Settings, list[str]], int]:
    """:py:func:`runtime.clips.segment_video`, which images do without."""
    try:
        from .clips import segment_video
    except ModuleNotFoundError as error:
        raise InputError(
            "videos take PyAV, which is not installed here: pip install av, or make runtime-env."
        ) from error
    return segment_video


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
    _refuse_names([*images, *map(Path, videos)])
    _refuse_overwriting(images, videos, settings)
    return images, videos


def _refuse_names(paths: list[Path]) -> None:
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{str(path)!r} is not in UTF-8, as names in tables must be: rename it.") from error


def _refuse_overwriting(images: list[Path], videos: list[str], settings: Settings) -> None:
    """Neither inputs nor outputs of other inputs are replaced."""
    names = [Path(text.replace(":", "") if text.startswith("camera:") else text) for text in videos]
    problems = duplicates(images) + duplicates(names)
    if problems:
        raise InputError("outputs would overwrite each other:\n  " + "\n  ".join(problems))
    for path in names if images else []:
        if path.stem == "images":
            raise InputError(f"{path}: its table would overwrite images.csv of the images: segment it by itself.")
    output_dir = settings.output_dir.resolve()
    for path in (*images, *map(Path, videos)):
        if path.parent.resolve() in (output_dir, output_dir / "overlays") and not str(path).startswith("camera:"):
            raise InputError(
                f"--output_dir {settings.output_dir} holds {path.name}: outputs would overwrite inputs, name another."
            )


def _segment_images(paths: list[Path], network: Network, settings: Settings, broken: list[str]) -> int:
    output_dir, overlays = settings.output_dir, settings.output_dir / "overlays"
    table = Table(output_dir / "images.csv", ["file", *columns(network)], settings.skip_finished)

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
    drawn = draw(ahead(network.run(ahead(read(), AHEAD)), AHEAD), network, settings, is_video=False)
    count = 0
    with tqdm(total=len(todo), desc="Segmenting", disable=None) as bar:
        for one in ahead(drawn, AHEAD):
            stem = Path(one.frame.name).stem
            save_mask(one.mask, output_dir / f"{stem}.png", network)
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
