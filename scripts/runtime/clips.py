# SPDX-License-Identifier: Apache-2.0
"""Segment a video file or a camera into an overlay video, a table and masks."""

import os
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from unetv2_monai.core.errors import BrokenFile
from unetv2_monai.core.frames import CAMERA
from unetv2_monai.core.video import Video, VideoWriter

from .network import Network
from .results import Settings, results, save_mask
from .tables import columns
from .views import with_views


def segment_video(source: str, path: Path, network: Network, settings: Settings, broken: list[str]) -> int:
    """
    Write the table of a video or camera, its overlay video and, if asked for, the masks of its frames.

    Until the end, table and overlay video have ``_incomplete`` in their names. If the video breaks off, they keep these
    names, and ``broken`` gets a sentence. Those of an earlier run are deleted at the start, those of this run after an
    error. Returns the number of frames written.
    """
    overlay, is_camera = _overlay(path), source.startswith(CAMERA)
    if settings.skip_finished and not is_camera and path.is_file() and (settings.no_overlays or overlay.is_file()):
        return 0
    try:
        video = Video(source, settings.color_matrix)
    except BrokenFile as error:
        broken.append(str(error))
        return 0
    table = Table(path, ["frame", "seconds", *columns(network.description.classes)])
    incomplete, writer, kept = _overlay(table.incomplete), None, False
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
                    if settings.video_masks:
                        name = f"{int(result.frame.name):06d}.png"
                        save_mask(result.mask, path.with_suffix("") / name, network.description)
                    seconds = float(result.frame.time * video.time_base)
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
            if writer:
                os.replace(incomplete, overlay)
            table.finish()
        kept = table.count > 0
    finally:
        if not kept:
            table.discard()
            incomplete.unlink(missing_ok=True)
    return table.count


def _overlay(table: Path) -> Path:
    return table.with_name(f"{table.stem}_overlay.mp4")
