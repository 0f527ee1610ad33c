# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that the bundle's configs attach to MONAI's engines."""

from .averaging import EpochMean, MovingAverage
from .checkpoints import AtomicCheckpointSaver, StrictCheckpointLoader, WholeCheckpointSaver, last_checkpoint
from .distributed import BroadcastBuffers
from .gradients import ClipGradients
from .runs import EpochLog, EpochSeed, NaNGuard, ResumeSchedule, StopOnSignal
from .score_table import ScoreTable

__all__ = [
    "AtomicCheckpointSaver",
    "BroadcastBuffers",
    "ClipGradients",
    "EpochLog",
    "EpochMean",
    "EpochSeed",
    "MovingAverage",
    "NaNGuard",
    "ResumeSchedule",
    "ScoreTable",
    "StopOnSignal",
    "StrictCheckpointLoader",
    "WholeCheckpointSaver",
    "last_checkpoint",
]
