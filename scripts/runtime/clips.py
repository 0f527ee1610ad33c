# SPDX-License-Identifier: Apache-2.0
"""A video from file or camera to overlay video, table and masks."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from .drawing import AHEAD, Drawn, Settings, columns, draw, save_mask
from .files import BrokenFile, Table, ahead, refusing
from .network import Network
from .video import CAMERA, Video, VideoWriter

__all__ = ["VideoOutputs", "segment_video"]


def segment_video(source: str, network: Network, settings: Settings, broken: list[str]) -> int:
    """
    Args:
        source: path of a video, or ``camera:0``.
        network, settings: of the run.
        broken: gets a sentence if the video cannot be read to its end.

    Returns:
        Number of frames written.
    """
    is_camera = source.startswith(CAMERA)
    path = settings.output_dir / (source.replace(":", "") if is_camera else Path(source).stem)
    count = 0
    try:
        if settings.skip_finished and not is_camera and VideoOutputs.are_in(path, settings):
            return 0
        video = Video(source)
        drawn = draw(ahead(network.run(ahead(video.frames(), AHEAD)), AHEAD), network, settings, is_video=True)
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
    other error it deletes them. Those of an earlier run are deleted at the start.

    Args:
        path: in the output folder, with the name of the video but no ending.
        video: what is segmented.
        network, settings: of the run.
    """

    def __init__(self, path: Path, video: Video, network: Network, settings: Settings) -> None:
        self.path, self.video, self.network, self.settings = path, video, network, settings
        self.table = Table(path.with_name(f"{path.name}.csv"), ["frame", "seconds", *columns(network)])
        self.overlay = path.with_name(f"{path.name}_overlay.mp4")
        self.partial = self.overlay.with_name(f".partial_{self.overlay.name}")
        self.writer: VideoWriter | None = None
        with refusing(self.overlay):  # of another run, as the table deletes its own
            self.overlay.unlink(missing_ok=True)

    @staticmethod
    def are_in(path: Path, settings: Settings) -> bool:
        """Whether all of them but masks are there, complete."""
        table, overlay = path.with_name(f"{path.name}.csv"), path.with_name(f"{path.name}_overlay.mp4")
        return table.is_file() and (settings.no_overlays or overlay.is_file())

    def add(self, one: Drawn) -> None:
        time = one.frame.time or 0
        if one.overlay is not None:
            with refusing(self.overlay):
                if self.writer is None:
                    self.writer = VideoWriter(self.partial, one.mask.shape, self.video.rate, self.video.time_base)
                self.writer.add(one.overlay, time)
        if self.settings.video_masks:
            save_mask(one.mask, self.path / f"{int(one.frame.name):06d}.png", self.network)
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
