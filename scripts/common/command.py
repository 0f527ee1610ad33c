# SPDX-License-Identifier: Apache-2.0
"""Begin and end a command: its ``--help``, and one sentence instead of a traceback for a user's error."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

# some environments lack unetv2_monai: it is beside scripts/, or around it if both were installed from a wheel
sys.path.extend(map(str, Path(__file__).resolve().parents[2:4]))
RUNTIME_PYTHON = Path(__file__).resolve().parents[2] / ".venv-runtime" / "bin" / "python"  # of make runtime-env


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose ``--help`` prints the docstring of the command as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(main: Callable[[], None], quiet: bool = False) -> None:
    """Run a command. A user's error ends it with its message and status 1. ``quiet``: hide what libraries log."""
    if quiet:
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
    try:
        main()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except ValueError as error:
        from unetv2_monai import InputError  # imported late: label_server.py starts without the package

        if not isinstance(error, InputError):
            raise
        sys.exit(f"error: {error}")
