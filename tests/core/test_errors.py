# SPDX-License-Identifier: Apache-2.0
"""What is printed where an error ends ``python -m monai.bundle``."""

from __future__ import annotations

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


def printed(fail, monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["/somewhere/monai/bundle/__main__.py"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    concise_errors()
    with pytest.raises((RuntimeError, KeyError)) as info:
        fail()
    sys.excepthook(info.type, info.value, info.value.__traceback__)
    return capsys.readouterr().err


def test_the_message_alone_of_what_caused_an_error(monkeypatch, capsys):
    assert printed(raise_wrapped, monkeypatch, capsys) == "error: set image_size\n"


def test_a_handled_error_does_not_hide_a_later_one(monkeypatch, capsys):
    text = printed(raise_after_a_handled_one, monkeypatch, capsys)
    assert text.rstrip().endswith("KeyError: 'the real one'")
    assert "Traceback" in text
    assert not text.startswith("error:")


def test_other_programs_keep_their_hook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    before = sys.excepthook
    InputError("only made")
    concise_errors()
    assert sys.excepthook is before
