# SPDX-License-Identifier: Apache-2.0
"""
Which config is being run. MONAI builds a config's components without telling them; this is the only search of the call
stack in the package. (The configs' own ``bundle_dir`` searches for the file of the config in the same way, before this
package can be imported.)
"""

import traceback
from typing import Any

from monai.bundle import ConfigParser


def running_parser() -> ConfigParser | None:
    """Return the nearest ``ConfigParser`` on the call stack, which builds the caller; None outside of a config."""
    callers = (frame.f_locals.get("self") for frame, _ in traceback.walk_stack(None))
    return next((found for found in callers if isinstance(found, ConfigParser)), None)


def running_config() -> dict[str, Any]:
    """Return the config that builds the caller, expressions as written; empty outside of one."""
    parser = running_parser()
    return {} if parser is None else {key: value for key, value in parser.get().items() if key != "_meta_"}


def is_computed(value: Any) -> bool:
    """Tell whether a config computes a value, by an expression or a reference."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def in_federation() -> bool:
    """Tell whether ``monai.fl`` builds the caller: it initialises a config before it removes the loading of weights."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None))
    return any(name.startswith("monai.fl.") for name in names)
