# SPDX-License-Identifier: Apache-2.0
"""What is printed where an error ends ``python -m monai.bundle``."""

import sys

import pytest

from unetv2_monai import InputError, concise_errors


def raise_wrapped() -> None:
    try:
        raise InputError("set image_size")
    except InputError as error:
        raise RuntimeError("failed to instantiate") from error


def raise_after_a_handled_one() -> None:
    try:
        raise InputError("an old message")
    except InputError:
        raise KeyError("the real one")  # noqa: B904 - the case that is tested


@pytest.mark.parametrize(
    ("fail", "first", "last"),
    [
        (raise_wrapped, "error: set image_size", "error: set image_size"),
        (raise_after_a_handled_one, "Traceback (most recent call last):", "KeyError: 'the real one'"),
    ],
)
def test_the_message_alone_of_what_caused_an_error(fail, first, last, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/somewhere/monai/bundle/__main__.py"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    concise_errors()
    with pytest.raises((RuntimeError, KeyError)) as info:
        fail()
    sys.excepthook(info.type, info.value, info.value.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == (first, last)


def test_other_programs_keep_their_hook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    before = sys.excepthook
    concise_errors()
    assert sys.excepthook is before
