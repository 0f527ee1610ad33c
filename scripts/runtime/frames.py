# SPDX-License-Identifier: Apache-2.0
"""Work on frames in threads."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 4  # results that are computed before they are asked for


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
