# SPDX-License-Identifier: Apache-2.0
"""The exceptions for input that the user has to fix."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType


class InputError(ValueError):
    """A file, folder or option that was given cannot be used; the message names it and says what to do."""


class BrokenFile(InputError):
    """A file cannot be read, or cannot be read to its end. Other files can still be used."""


def input_error_behind(error: BaseException | None) -> InputError | None:
    """Return the InputError that caused an error, such as an error of MONAI's config parser; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__  # not __context__: an error that was handled is not the cause of a later one
    return error


def concise_errors(rewrite: Callable[[str], str] = str) -> None:
    """
    Make ``python -m monai.bundle`` print an InputError as its message alone, changed by ``rewrite``.

    The configs call it in ``initialize``. In other programs it does nothing.
    """
    if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        sys.excepthook = partial(_print_message_alone, rewrite)


def _print_message_alone(
    rewrite: Callable[[str], str], kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    cause = input_error_behind(error)
    if cause is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {rewrite(str(cause))}", file=sys.stderr)
