# SPDX-License-Identifier: Apache-2.0
"""Keep the memory of freed tensors in this process."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_memory() -> bool:
    """Keep the memory that CPU tensors free for later tensors; return False if the C library is not glibc.

    Without this, glibc returns large blocks to the system at once, so every forward pass maps and zeroes its pages
    again. That takes up to half of its time. The cost is a peak of memory that is up to a third higher and is held
    until the process ends (docs/results/performance.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
