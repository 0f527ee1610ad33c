# SPDX-License-Identifier: Apache-2.0
"""options"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys

import monai

from ..errors import InputError
from .context import running_config

__all__ = ["check_options"]


def check_options() -> None:
    """
    Refuse options of the command line that nothing in the config refers to, which ``monai.bundle`` would ignore.

    Raises:
        InputError: with the name that was probably meant.
    """
    config = running_config()
    own = set(inspect.signature(monai.bundle.run).parameters)
    given = [re.split("[=#]", word[2:])[0] for word in sys.argv[1:] if word.startswith("--")]
    used = {key: set(re.findall(r"[@%](\w+)", json.dumps(value, default=str))) for key, value in config.items()}
    for name in given:
        referred = set().union(*(found for key, found in used.items() if key != name))
        if name in config and name not in own | referred and not isinstance(config[name], dict | list):
            close = difflib.get_close_matches(name, sorted(referred & config.keys()), 1)
            hint = f"; did you mean --{close[0]}?" if close else ". docs/configuration.md lists them."
            raise InputError(f"there is no option --{name}{hint}")
