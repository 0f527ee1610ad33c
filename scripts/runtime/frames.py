# SPDX-License-Identifier: Apache-2.0
"""Work on frames in threads, and find the endoscope's view in those of a video."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import numpy as np

from unetv2_monai.core.frames import Frame
from unetv2_monai.core.view import DARK, find_view

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 4  # results that are computed before they are asked for
LASTING = 25  # lit frames that must agree on a smaller view
ALIKE = 0.03  # share of the shorter side by which views that agree may differ at each side
LIT = 0.1  # share of a lit frame that is brighter than DARK


def in_threads(function: Callable[[S], T], items: Iterable[S], threads: int = 1) -> Generator[T, None, None]:
    """Apply a function to items in threads, and yield the results in order. A few are computed ahead."""
    with ThreadPoolExecutor(threads) as pool:
        made: deque[Future[T]] = deque()
        try:
            for item in items:
                made.append(pool.submit(function, item))
                if len(made) == threads + AHEAD:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Take items in a thread, a few ahead, and yield them in order."""
    iterator, end = iter(items), object()
    with closing(in_threads(lambda _: next(iterator, end), itertools.repeat(None))) as made:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]


def with_views(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Give frames of one size their views, in order. The view grows at once to hold what is found in a lit frame. It
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
