# SPDX-License-Identifier: Apache-2.0
"""The exceptions for input that the user has to fix."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

__all__ = ["BrokenFile", "InputError", "concise_errors", "input_error_behind"]


class InputError(ValueError):
    """A file, folder or option that was given cannot be used; the message names it and says what to do."""


class BrokenFile(InputError):
    """A file cannot be read, or not to its end. The others can still be used."""


def input_error_behind(error: BaseException | None) -> InputError | None:
    """The InputError that an error, such as MONAI's of a config, was raised for; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__  # not __context__: an error that was handled is not the reason of a later one
    return error


def concise_errors(rewrite: Callable[[str], str] = str) -> None:
    """
    Where an :py:class:`InputError` ends ``python -m monai.bundle``, print its message alone.

    It is a step of ``initialize`` in the configs. In other programs it does nothing.

    Args:
        rewrite: makes the printed text of the message. Defaults to the message itself.
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
