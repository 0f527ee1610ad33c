# SPDX-License-Identifier: Apache-2.0
"""Frames, which are images with names, and work on them in threads."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from unetv2_monai.core.view import View

S = TypeVar("S")
T = TypeVar("T")

CAMERA = "camera:"  # prefix of a camera's number
AHEAD = 4  # results that are computed before they are asked for
WHOLE: View = (slice(None), slice(None))


@dataclass(frozen=True)
class Frame:
    """A file name or frame number, an image (height, width, 3) of 0 to 255, and its time in the video's time base."""

    name: str
    image: np.ndarray
    time: int = 0
    view: View = WHOLE  # rows and columns that the network is given


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
