# SPDX-License-Identifier: Apache-2.0
"""How this process holds the memory of its images."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_memory() -> None:
    """
    As ``unetv2_monai.keep_memory``, whose package takes torch to import: memory that arrays free is kept for the next
    ones. Otherwise each image has its pages mapped, zeroed and faulted in again, a tenth of its time.
    """
    with contextlib.suppress(AttributeError, TypeError):  # other C libraries have no such setting
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
