# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that the bundle's configs attach to MONAI's engines."""

from .checkpoints import AtomicCheckpointSaver, StrictCheckpointLoader, WholeCheckpointSaver, last_checkpoint
from .runs import EpochLog, EpochSeed, NaNGuard, StopOnSignal
from .score_table import ScoreTable

__all__ = [
    "AtomicCheckpointSaver",
    "EpochLog",
    "EpochSeed",
    "NaNGuard",
    "ScoreTable",
    "StopOnSignal",
    "StrictCheckpointLoader",
    "WholeCheckpointSaver",
    "last_checkpoint",
]
