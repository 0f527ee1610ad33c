# SPDX-License-Identifier: Apache-2.0
"""What is printed where an error ends ``python -m monai.bundle``."""

from __future__ import annotations

import sys

import pytest

from unetv2_monai import InputError, concise_errors


@pytest.fixture
def command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/monai/bundle/__main__.py"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


def printed(error: BaseException, capsys) -> str:
    sys.excepthook(type(error), error, error.__traceback__)
    return capsys.readouterr().err


def raised(function) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: PT011
        function()
    return info.value


def test_the_message_alone_of_what_caused_an_error(command_line, capsys):
    def fail():
        try:
            raise InputError("set --image_size")
        except InputError as error:
            raise RuntimeError("failed to instantiate") from error

    concise_errors()
    assert printed(raised(fail), capsys) == "error: set --image_size\n"


def test_a_handled_error_does_not_hide_a_later_one(command_line, capsys):
    def fail():
        try:
            raise InputError("an old message")
        except InputError:
            raise KeyError("the real one")  # noqa: B904 - the case that is tested

    concise_errors()
    text = printed(raised(fail), capsys)
    assert "KeyError: 'the real one'" in text
    assert "Traceback" in text
    assert not text.startswith("error:")


def test_an_exception_alone_changes_nothing(command_line):
    InputError("only made")
    assert sys.excepthook is sys.__excepthook__


def test_other_programs_keep_their_hook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    before = sys.excepthook
    concise_errors()
    assert sys.excepthook is before
