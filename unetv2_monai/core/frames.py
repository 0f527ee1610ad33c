# SPDX-License-Identifier: Apache-2.0
"""Frames, which are images with names."""

from dataclasses import dataclass

import numpy as np

from .view import View

CAMERA = "camera:"  # prefix of a camera's number
WHOLE: View = (slice(None), slice(None))


@dataclass(frozen=True)
class Frame:
    """A file name or frame number, an image (height, width, 3) of 0 to 255, and its time in the video's time base."""

    name: str
    image: np.ndarray
    time: int = 0
    view: View = WHOLE  # rows and columns that the network is given
    spacing: tuple[float, float] | None = None  # width and height of a pixel in mm
