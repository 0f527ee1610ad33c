# SPDX-License-Identifier: Apache-2.0
"""Find the config that is being run. MONAI does not tell components which config builds them, so this module searches
the call stack. No other module of the package does so. (``bundle_dir`` in the configs finds the config's file in the
same way, because it runs before this package can be imported.)
"""

import traceback
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

KEYS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("keys.yaml").read_text())


def running_parser() -> ConfigParser | None:
    """Return the nearest ``ConfigParser`` on the call stack, which is building the caller; None if there is none."""
    callers = (frame.f_locals.get("self") for frame, _ in traceback.walk_stack(None))
    return next((found for found in callers if isinstance(found, ConfigParser)), None)


def running_config() -> dict[str, Any]:
    """Return the config that is building the caller, with expressions not evaluated; an empty dict if there is none."""
    parser = running_parser()
    return {} if parser is None else {key: value for key, value in parser.get().items() if key != "_meta_"}


def is_computed(value: Any) -> bool:
    """Tell whether a value of a config is an expression or a reference."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def in_federation() -> bool:
    """Tell whether ``monai.fl`` builds the caller. It initialises a config before it disables loading of weights."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None))
    return any(name.startswith("monai.fl.") for name in names)
