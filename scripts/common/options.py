# SPDX-License-Identifier: Apache-2.0
"""Options of the bundle on a command line: ``--set KEY=VALUE KEY=VALUE ...``.

Only the standard library is imported at the top: label_server.py parses its command line before it changes to the
environment that has the packages.
"""

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def plain_option(config: Mapping[str, Any], key: str) -> Any:
    """Return an option's value in a config as read. If it names a part (``"@encoder"``), return the part's class."""
    value = config.get(key)
    part = config.get(value[1:]) if isinstance(value, str) and value.startswith("@") else None
    return part["_target_"] if isinstance(part, Mapping) else value


def add_set(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--set``, whose keys and texts :py:func:`read_set` reads."""
    parser.add_argument(
        "--set", nargs="*", type=key_and_text, action="extend", default=[], metavar="KEY=VALUE", help=help
    )


def key_and_text(item: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``; the value may hold further ``=``."""
    key, sign, text = item.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{item!r} is not of the form KEY=VALUE, such as image_size=352")
    return key, text


def read_set(given: Iterable[tuple[str, str]], *configs: str) -> dict[str, Any]:
    """Parse the texts of ``--set`` as YAML; of a key that is given twice the last one counts. ``1e-4``, which is text
    in YAML 1.1, is a number here, as it is for ``monai.bundle``.

    Raise InputError for a text that is no YAML, and for a key whose topmost part is in none of the configs.
    """
    import yaml

    from unetv2_monai import InputError

    from .bundle import read_config

    known, values = [read_config([name]) for name in configs], {}
    for key, text in dict(given).items():
        if not any(key.split("#")[0] in config for config in known):
            raise InputError(f"--set {key}: not an option of the configs, see docs/reference/options.md.")
        try:
            values[key] = float(text) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text) else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {key}={text}: the value is not valid YAML.") from error
    return values


def with_carried(given: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Add given options to those that a file of weights carries; raise InputError where the two contradict."""
    from unetv2_monai import InputError
    from unetv2_monai.bundle.carried import FREE_OPTIONS
    from unetv2_monai.networks import options_of, read_weights

    carried = options_of(read_weights(checkpoint))
    for key, value in given.items():
        if key in carried and value != carried[key] and key not in FREE_OPTIONS:
            trained = f"the weights in {checkpoint}, which were trained with {carried[key]}"
            raise InputError(f"--set {key}={value} contradicts {trained}. Leave it out, or name other weights.")
    return {**carried, **given}
