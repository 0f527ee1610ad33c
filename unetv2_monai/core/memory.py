# SPDX-License-Identifier: Apache-2.0
"""How this process holds the memory of its tensors."""

import ctypes

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_memory() -> bool:
    """
    Keep the memory that tensors on the CPU free for the next ones; return False where the C library cannot (not glibc).

    glibc gives large blocks back at once, so that each forward pass has its pages mapped and zeroed again, up to half
    of
    its time. The cost is a peak that is higher by up to a third, and held to the end (docs/results/performance.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
