# SPDX-License-Identifier: Apache-2.0
"""The exceptions for input that the user has to fix."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any


class InputError(ValueError):
    """A file, folder or option that was given cannot be used; the message names it and says what to do."""


class BrokenFile(InputError):
    """A file cannot be read, or cannot be read to its end. Other files can still be used."""


def refuse_broken(broken: Sequence[str]) -> None:
    """Raise InputError if there are sentences about files that could not be read."""
    if broken:
        files, lines = "file" if len(broken) == 1 else "files", "\n  ".join(broken)
        raise InputError(f"{len(broken)} {files} could not be read, the others are done:\n  {lines}")


def input_error_behind(error: BaseException | None) -> InputError | None:
    """Return the InputError that caused an error, such as an error of MONAI's config parser; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__  # not __context__: an error that was handled is not the cause of a later one
    return error


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the InputError that caused an error without the errors around it, and any other error as it is."""
    try:
        yield
    except Exception as error:
        raise input_error_behind(error) or error from None


def message_behind(error: BaseException) -> str | None:
    """Return the message of the InputError that caused an error; None if there is none."""
    cause = input_error_behind(error)
    return None if cause is None else str(cause)


def concise_errors(message_of: Callable[[BaseException], str | None] = message_behind) -> None:
    """Make ``python -m monai.bundle`` print and log errors as ``message_of`` says; do nothing in other programs."""
    if Path(sys.argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    new_record = logging.getLogRecordFactory()

    def print_message_alone(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        message = message_of(error)
        if message is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"error: {message}", file=sys.stderr)

    def without_traceback(*args: Any, **kw: Any) -> logging.LogRecord:
        record = new_record(*args, **kw)
        if record.exc_info and record.exc_info[1] is not None and message_of(record.exc_info[1]) is not None:
            record.exc_info = None
        return record

    sys.excepthook = print_message_alone
    logging.setLogRecordFactory(without_traceback)  # MONAI's StatsHandler logs every error with its traceback
