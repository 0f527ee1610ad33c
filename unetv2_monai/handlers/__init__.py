# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that the bundle's configs attach to MONAI's engines."""

from .averaging import EpochMean, MovingAverage
from .checkpoints import AtomicCheckpointSaver, WholeCheckpointSaver
from .distributed import BroadcastBuffers
from .gradients import ClipGradients
from .score_table import ScoreTable
from .training_run import TrainingRun

__all__ = [
    "AtomicCheckpointSaver",
    "BroadcastBuffers",
    "ClipGradients",
    "EpochMean",
    "MovingAverage",
    "ScoreTable",
    "TrainingRun",
    "WholeCheckpointSaver",
]
