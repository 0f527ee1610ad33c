# SPDX-License-Identifier: Apache-2.0
"""How this process holds the memory of its tensors."""

from __future__ import annotations

import ctypes

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_memory() -> bool:
    """
    Keep the memory that tensors on the CPU free for the next ones, instead of giving it back to the system.

    A network allocates every activation anew. glibc gives large blocks back as soon as they are freed, so that each
    forward pass has its pages mapped, zeroed and faulted in again, up to half of its time. The cost is memory: freed
    blocks are not always the size that is needed next, so the peak is higher, by up to a third for one large image
    through windows, and the process holds it until it ends (docs/results/performance.md).

    Returns:
        True if done, False where the C library has no such setting (macOS, Windows, musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
