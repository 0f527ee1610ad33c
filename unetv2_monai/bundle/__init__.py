# SPDX-License-Identifier: Apache-2.0
"""What the bundle's configs do around training: options, the folder of a run, memory."""

from .context import running_config
from .options import check_options
from .run_folder import RunFolder

__all__ = ["RunFolder", "check_options", "running_config"]
