# SPDX-License-Identifier: Apache-2.0
"""Segment a video file or a camera into an overlay video, a table and masks."""

import os
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from unetv2_monai.core.dicom import Source
from unetv2_monai.core.dicom_seg import SegFiles, seg_path
from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.frames import CAMERA
from unetv2_monai.core.lesions import lesion_columns, lesion_rows
from unetv2_monai.core.tables import Table
from unetv2_monai.core.video import Video, VideoWriter

from .dicoms import Clip
from .network import Network
from .results import Settings, results, save_mask
from .tables import columns, lesion_table
from .views import with_views


def segment_video(
    source: str | Source, path: Path, network: Network, settings: Settings, seg: SegFiles | None, broken: list[str]
) -> int:
    """
    Write the tables of a video, a camera or a DICOM source, its overlay video and, if asked for or of DICOM, the masks
    of its frames.

    Until the end, tables and overlay video have ``_incomplete`` in their names. If the video breaks off, they keep
    these names, and ``broken`` gets a sentence. Those of an earlier run are deleted at the start, those of this run
    after an error. Returns the number of frames written.
    """
    overlay, lesion_path, of_dicom = _overlay(path), lesion_table(path), isinstance(source, Source)
    is_camera = isinstance(source, str) and source.startswith(CAMERA)
    outputs = [path, lesion_path, *([] if settings.no_overlays else [overlay])]
    if isinstance(source, Source) and seg:
        outputs.append(seg_path(settings.output_dir, source))
    if settings.skip_finished and not is_camera and all(output.is_file() for output in outputs):
        return 0
    try:
        video = Clip(source) if isinstance(source, Source) else Video(source, settings.color_matrix)
    except BrokenFile as error:
        broken.append(str(error))
        return 0
    table = Table(path, ["frame", "seconds", *columns(network.description.classes)])
    lesions = Table(lesion_path, lesion_columns())
    incomplete, writer, kept, masks = _overlay(table.incomplete), None, False, []
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
            if isinstance(source, Source) and seg:
                seg.write(source, masks, settings.output_dir, broken)
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


def _overlay(table: Path) -> Path:
    return table.with_name(f"{table.stem}_overlay.mp4")
