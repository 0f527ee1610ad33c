# SPDX-License-Identifier: Apache-2.0
"""What the bundle's configs do around training: options, the folder of a run, memory, the optimiser."""

from .context import running_config
from .memory import keep_memory
from .muon import fast_muon
from .options import check_options
from .run_folder import RunFolder

__all__ = ["RunFolder", "check_options", "fast_muon", "keep_memory", "running_config"]
