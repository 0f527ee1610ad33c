# SPDX-License-Identifier: Apache-2.0
"""The work of segment.py: find the inputs, and segment image files into masks, overlays and a table."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from unetv2_monai.core.dicom import PHOTOGRAPH, SKIPPED, Source, find_sources, located
from unetv2_monai.core.dicom_pixels import read_frame
from unetv2_monai.core.dicom_seg import SegFiles
from unetv2_monai.core.errors import BrokenFile, InputError, refuse_broken
from unetv2_monai.core.frames import CAMERA, WHOLE, Frame
from unetv2_monai.core.images import about_windows, read_picture
from unetv2_monai.core.lesions import lesion_columns, lesion_rows
from unetv2_monai.core.listing import IMAGE_ENDINGS, list_images, refuse_other_encoding
from unetv2_monai.core.memory import keep_memory
from unetv2_monai.core.overlay import save_overlay
from unetv2_monai.core.tables import Table
from unetv2_monai.core.view import find_view

from .network import Network
from .results import Settings, beside, columns, results, save_mask

ROTATED = range(5, 9)  # EXIF orientations that exchange width and height


def segment(settings: Settings) -> None:
    """Segment all inputs. Raises InputError when one is missing, or at the end for those that cannot be read."""
    broken: list[str] = []
    images, videos = _find_inputs(settings.inputs, broken)
    if settings.skip_finished and any(isinstance(each, Source) for each in (*images.values(), *videos)):
        raise InputError(SKIPPED)
    tables = [(video, settings.output_dir / f"{_video_name(video)}.csv") for video in videos]
    _refuse_overwriting(images, tables, settings.output_dir)
    if videos:
        try:
            from .clips import segment_video
        except ModuleNotFoundError as error:
            raise InputError("videos take PyAV, which is not installed: pip install av or make runtime-env") from error
    keep_memory()
    several = len(images) > 1 or bool(videos)
    network = Network(settings.model, settings.precision, several, settings.certainty)
    classes, sha256 = max(network.description.out_channels - 1, 1), network.description.weights_sha256
    options = (str(settings.model), settings.seg_codes, settings.labelmap, sha256)
    seg = SegFiles(settings.seg, classes, *options) if settings.seg else None
    with _alone(settings.output_dir):
        if images:
            count = _segment_images(images, network, settings, seg, broken)
            print(count, "masks written to", settings.output_dir)
        for video, path in tables:
            if count := segment_video(video, path, network, settings, seg, broken):
                shown = video if isinstance(video, str) else video.name
                print(f"{count} frames of {shown} written to {settings.output_dir}")
    refuse_broken(broken)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a folder, and lock it while this process works in it: two would replace each other's rows."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows locks no folders
        yield
        return
    locked = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"another segment.py writes to {folder}: wait, or name another --output_dir.") from error
    except OSError:
        pass  # some network file systems lock no folders
    try:
        yield
    finally:
        os.close(locked)


def _find_inputs(inputs: Sequence[str], broken: list[str]) -> tuple[dict[Path, Source | None], list[str | Source]]:
    """Return the images, with their sources where they are DICOM, and the videos; add sentences of what is broken."""
    images: dict[Path, Source | None] = {}
    videos: list[str | Source] = []
    for text in inputs:
        path = Path(text)
        if found := find_sources(path):
            broken += found.broken
            images |= {Path(source.addresses()[0]): source for source in found.sources if source.kind == PHOTOGRAPH}
            videos += [source for source in found.sources if source.kind != PHOTOGRAPH]
        elif path.is_dir():
            images |= dict.fromkeys(list_images(path, IMAGE_ENDINGS))
        elif not path.exists() and not text.startswith(CAMERA):
            raise InputError(f"{text} does not exist.")
        elif path.name.lower().endswith(IMAGE_ENDINGS):
            images[path] = None
        else:
            videos.append(text)
    for each in (*images, *videos):
        if not isinstance(each, Source):
            refuse_other_encoding(each)
    return images, videos


def _video_name(video: str | Source) -> str:
    if isinstance(video, Source):
        return video.name
    return video.replace(":", "") if video.startswith(CAMERA) else Path(video).stem


def _refuse_overwriting(images: Iterable[Path], tables: Sequence[tuple[str | Source, Path]], output_dir: Path) -> None:
    """Refuse outputs that would replace inputs, or outputs of other inputs."""
    masks = [(path, output_dir / f"{path.stem}.png") for path in images]
    tables = [*tables, *((video, beside(path, "lesions.csv")) for video, path in tables)]
    shared = ("images.csv", "lesions.csv") if masks else ()
    written: dict[Path, object] = {output_dir / name: "all images" for name in shared}
    problems = []
    for source, output in (*masks, *tables):
        shown: object = source
        if isinstance(source, Source) or (isinstance(source, Path) and located(source)):
            shown = source.name  # without patient data
        if output in written:
            problems.append(f"{output.name}: of {written[output]} and of {shown}")
        written[output] = shown
    if problems:
        raise InputError("outputs would overwrite each other:\n  " + "\n  ".join(problems))
    folders = [folder.resolve() for folder in (output_dir, output_dir / "overlays")]
    for path in (*images, *(Path(video) for video, _ in tables if isinstance(video, str))):
        if path.exists() and path.parent.resolve() in folders:
            raise InputError(f"--output_dir {output_dir} holds {path.name}: outputs would overwrite inputs.")


def _segment_images(
    images: Mapping[Path, Source | None],
    network: Network,
    settings: Settings,
    seg: SegFiles | None,
    broken: list[str],
) -> int:
    output_dir, overlays = settings.output_dir, settings.output_dir / "overlays"
    table = Table(output_dir / "images.csv", ["file", *columns(network.description.classes)], settings.skip_finished)
    lesions = Table(output_dir / "lesions.csv", lesion_columns(), settings.skip_finished, keys=3)
    sources = {path.name: source for path, source in images.items()}

    def finished(path: Path) -> bool:
        complete = (path.name,) in table.rows and (settings.no_overlays or (overlays / f"{path.stem}.jpg").is_file())
        size = _size(output_dir / f"{path.stem}.png")
        return complete and size is not None and size == _size(path)

    windows: dict[str, tuple[float, float]] = {}

    def read() -> Iterator[Frame]:
        for path in todo:
            try:
                if images[path]:
                    image, spacing = read_frame(path)
                else:
                    image, spacing = np.asarray(shown := read_picture(path)), None
                    windows.update({path.name: shown.info["window"]} if "window" in shown.info else {})
                view = find_view(image) if network.description.view else WHOLE
                yield Frame(path.name, image, view=view, spacing=spacing)
            except BrokenFile as error:
                broken.append(str(error))

    todo = [path for path in images if not (settings.skip_finished and finished(path))]
    independent = dataclasses.replace(settings, smoothing=0, presence=None)  # both are for videos
    found = results(read(), network, independent)
    with closing(found), tqdm(total=len(todo), desc="Segmenting", disable=None) as bar:
        for result in found:
            name = Path(result.frame.name).stem
            save_mask(result.mask, output_dir / f"{name}.png", network.description)
            if result.overlay is not None:
                save_overlay(result.overlay, overlays / f"{name}.jpg")
            if seg and (source := sources[result.frame.name]):
                seg.write(source, [result.mask], output_dir, broken)
            for row in lesion_rows(result.frame.name, "", result.lesions):
                lesions.add(row)
            table.add([result.frame.name, *result.cells])
            bar.update()
    about_windows(windows, len(todo))
    lesions.finish(order=sources)
    table.finish(order=sources)
    return table.count


def _size(path: Path) -> tuple[int, ...] | None:
    """Return width and height of the upright image; None if it cannot be read."""
    try:
        with Image.open(path) as opened:
            return opened.size[:: -1 if opened.getexif().get(274) in ROTATED else 1]
    except Exception:  # image decoders raise almost anything
        return None
