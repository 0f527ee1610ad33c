# SPDX-License-Identifier: Apache-2.0
"""Translate the library's error messages for users of the configs.

The messages of networks, data, losses and handlers name Python arguments. This module writes these arguments as options
of the command line. It also appends hints to some messages, such as the config file that helps.
"""

import re
from collections.abc import Collection
from pathlib import Path

import yaml

from ..core.errors import message_behind

TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
FOREIGN, HINTS = TABLE["foreign"], TABLE["hints"]  # texts by patterns


def as_options(message: str, options: Collection[str]) -> str:
    """Write the option names in a message as on the command line (``--name``), and append the hints that match."""
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, message)]
    text = " ".join([message, *hints])
    # skip names within a path, a longer name or an option, and names without _, which may be English words
    names = "|".join(sorted((re.escape(name) for name in options if "_" in name), key=len, reverse=True))
    return re.sub(rf"(?<![\w/.#-])({names})(?![\w/=]|\.\w)", r"--\1", text) if names else text


def message_of(error: BaseException, options: Collection[str]) -> str | None:
    """Return what is printed instead of an error that the user has to fix; None for other errors."""
    message = message_behind(error)
    cause: BaseException | None = error
    while message is None and cause is not None:
        found = ((re.search(pattern, str(cause)), ours) for pattern, ours in FOREIGN.items())
        message = next((match.expand(ours) for match, ours in found if match), None)
        cause = cause.__cause__
    return None if message is None else as_options(message, options)
