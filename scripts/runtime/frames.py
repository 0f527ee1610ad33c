# SPDX-License-Identifier: Apache-2.0
"""Frames: images with their names, and work on them in threads."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

S = TypeVar("S")
T = TypeVar("T")

CAMERA = "camera:"  # before the number of one
AHEAD = 4  # results that wait for whoever takes them


@dataclass(frozen=True)
class Frame:
    """An image (height, width, 3) of 0 to 255, its file or number, and its time in the time base of its video."""

    name: str
    image: np.ndarray
    time: int = 0


def in_threads(function: Callable[[S], T], items: Iterable[S], threads: int = 1) -> Generator[T, None, None]:
    """Apply a function in threads to a few more items than were asked for; results keep the order of the items."""
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
    """The same items in order; an iterator makes them in a thread, a few more than were asked for."""
    iterator, end = iter(items), object()
    with closing(in_threads(lambda _: next(iterator, end), itertools.repeat(None))) as made:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]
