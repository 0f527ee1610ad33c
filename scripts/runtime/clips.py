# SPDX-License-Identifier: Apache-2.0
"""Segment a video file, a camera or a DICOM source of several frames into an overlay video, tables and masks."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from unetv2_monai.core.dicom import Source, frame_rate
from unetv2_monai.core.dicom_pixels import read_frame
from unetv2_monai.core.dicom_seg import SegFiles
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.frames import CAMERA, Frame
from unetv2_monai.core.lesions import lesion_columns, lesion_rows
from unetv2_monai.core.tables import Table
from unetv2_monai.core.video import Video, VideoWriter

from .frames import with_views
from .network import Network
from .results import Settings, beside, columns, results, save_mask


class Clip:
    """The frames of a source, with what clips.py takes of a ``Video``. Slices are shown by their window."""

    aspect, cut = None, False

    def __init__(self, source: Source) -> None:
        self.source, self.expected, self.broken = source, len(source.places), ""
        self.rate = frame_rate(source)
        self.time_base = 1 / self.rate

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order. If one cannot be decoded, ``broken`` says why."""
        try:
            for number, address in enumerate(self.source.addresses()):
                image, spacing = read_frame(address)
                yield Frame(str(number), image, number, spacing=spacing)
        except BrokenFile as error:
            self.broken = str(error)


def segment_video(
    source: str | Source, path: Path, network: Network, settings: Settings, seg: SegFiles | None, broken: list[str]
) -> int:
    """Write the tables of a video, a camera or a DICOM source, its overlay video and, if asked for or of DICOM, the
    masks of its frames.

    Until the end, tables and overlay video have ``_incomplete`` in their names. If the video breaks off, they keep
    these names, and ``broken`` gets a sentence. Those of an earlier run are deleted at the start, those of this run
    after an error. Returns the number of frames written.
    """
    overlay, lesion_path = beside(path, "overlay.mp4"), beside(path, "lesions.csv")
    of_dicom = source if isinstance(source, Source) else None
    is_camera = isinstance(source, str) and source.startswith(CAMERA)
    outputs = [path, lesion_path, *([] if settings.no_overlays else [overlay])]
    if settings.skip_finished and not is_camera and all(output.is_file() for output in outputs):
        return 0
    try:
        video = Clip(source) if isinstance(source, Source) else Video(source, settings.color_matrix)
    except BrokenFile as error:
        broken.append(str(error))
        return 0
    table = Table(path, ["frame", "seconds", *columns(network.description.classes)])
    lesions = Table(lesion_path, lesion_columns())
    incomplete, writer, kept, masks = beside(table.incomplete, "overlay.mp4"), None, False, []
    try:
        overlay.unlink(missing_ok=True)
        frames = video.frames()
        found = results(with_views(frames) if network.description.view else frames, network, settings)
        bar = tqdm(total=video.expected, desc=path.stem, unit="frame", disable=None)
        try:
            with bar, closing(found):
                for result in found:
                    if result.overlay is not None:
                        size = result.mask.shape
                        writer = writer or VideoWriter(incomplete, size, video.rate, video.time_base, video.aspect)
                        writer.add(result.overlay, result.frame.time)
                    if seg and of_dicom:
                        masks.append(result.mask)
                    if settings.video_masks or of_dicom:
                        name = f"{int(result.frame.name):06d}.png"
                        save_mask(result.mask, path.with_suffix("") / name, network.description)
                    seconds = float(result.frame.time * video.time_base)
                    for row in lesion_rows(path.stem, result.frame.name, result.lesions):
                        lesions.add(row)
                    table.add([result.frame.name, f"{seconds:.3f}", *result.cells])
                    bar.update()
        except KeyboardInterrupt:
            if not is_camera:
                raise
        if writer:
            writer.close()
        if video.broken:
            broken.append(video.broken)
        else:
            if seg and of_dicom:
                seg.write(of_dicom, masks, settings.output_dir, broken)
            if writer:
                os.replace(incomplete, overlay)
            lesions.finish()
            table.finish()
        kept = table.count > 0
    finally:
        if not kept:
            lesions.discard()
            table.discard()
            incomplete.unlink(missing_ok=True)
    return table.count
