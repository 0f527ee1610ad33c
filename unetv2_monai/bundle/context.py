# SPDX-License-Identifier: Apache-2.0
"""
Which config is being run. MONAI builds a config's components without telling them; this is the only search of the call
stack in the package. (The configs' own ``bundle_dir`` searches for the file of the config in the same way, before this
package can be imported.)
"""

import traceback
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["in_federation", "is_computed", "running_config", "running_parser"]


def running_parser() -> ConfigParser | None:
    """The nearest ``ConfigParser`` on the call stack, which builds the caller; None outside of a config."""
    callers = (frame.f_locals.get("self") for frame, _ in traceback.walk_stack(None))
    return next((found for found in callers if isinstance(found, ConfigParser)), None)


def running_config() -> dict[str, Any]:
    """The config that builds the caller, with overlays and options, expressions as written; empty outside of one."""
    parser = running_parser()
    return {} if parser is None else {key: value for key, value in parser.get().items() if key != "_meta_"}


def is_computed(value: Any) -> bool:
    """Whether a config computes a value, by an expression or a reference."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def in_federation() -> bool:
    """Whether ``monai.fl`` builds the caller, which initialises a config before it takes the loading of weights out."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None))
    return any(name.startswith("monai.fl.") for name in names)
