# SPDX-License-Identifier: Apache-2.0
"""The endoscope's view in a video: the same in all frames, until the layout of the frames changes."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from unetv2_monai.core.frames import Frame
from unetv2_monai.core.view import DARK, find_view

LASTING = 25  # lit frames that must agree on a smaller view
ALIKE = 0.03  # share of the shorter side by which views that agree may differ at each side
LIT = 0.1  # share of a lit frame that is brighter than DARK


def with_views(frames: Iterable[Frame]) -> Iterator[Frame]:
    """
    Give frames of one size their views, in order. The view grows at once to hold what is found in a lit frame. It
    becomes smaller when the last lit frames agree on that, so darkness and blur at its edge do not change it.
    """
    held: np.ndarray | None = None  # top, left, and bottom and right as negative numbers: the minimum joins two views
    last: deque[np.ndarray] = deque(maxlen=LASTING)
    for frame in frames:
        rows, columns = find_view(frame.image)
        found = np.array([rows.start, columns.start, -rows.stop, -columns.stop])
        if np.mean(frame.image[::8, ::8].transpose(2, 0, 1).copy().max(0) > DARK) > LIT:
            last.append(found)
            held = found if held is None else np.minimum(held, found)
            common, near = np.min(last, 0), ALIKE * min(frame.image.shape[:2])
            if len(last) == LASTING and np.ptp(last, 0).max() <= near < np.abs(common - held).max():
                held = common
        top, left, bottom, right = (found if held is None else held).tolist()
        yield replace(frame, view=(slice(top, -bottom), slice(left, -right)))
