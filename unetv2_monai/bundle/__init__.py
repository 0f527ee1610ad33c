# SPDX-License-Identifier: Apache-2.0
"""What the bundle's configs do around training: options, what weights carry, the folder of a run."""

from .carried import options_to_carry, take_over
from .context import running_config
from .prepare import prepare
from .run_folder import start_run

__all__ = ["options_to_carry", "prepare", "running_config", "start_run", "take_over"]
