# SPDX-License-Identifier: Apache-2.0
"""
Types of values in requests. Some of these values become parts of a config, which is code: so each has a type and a
range, and what would make a string an expression there is refused in all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Device", "Facts", "Fields", "Flag", "Ids", "ImageId", "LabelInfo", "NewId", "Number", "OneOf", "Refused"]
__all__ += ["Text", "checked_fields", "read_json"]

MARKS = ("$", "@", "%", "_target_")  # what makes a string of a config an expression, a reference, a macro, an object
MAX_JSON = 64 * 1024  # bytes
NEW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")


class Refused(Exception):
    """A call that is not answered: ``status`` and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Facts:
    """What there is on this server, for checks that depend on it."""

    models: Collection[str]
    images: Collection[str]
    devices: Collection[str]


class Type:
    """A type of values; ``checked`` returns the value as MONAI Label gets it. None: it is left out."""

    may_hold_marks = False

    def checked(self, value: Any, facts: Facts) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Flag(Type):
    """true or false"""

    def checked(self, value: Any, facts: Facts) -> Any:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
        raise ValueError("is true or false")


@dataclass(frozen=True)
class Number(Type):
    """A number from ``low`` to ``high``."""

    low: float
    high: float
    whole: bool = True

    def checked(self, value: Any, facts: Facts) -> Any:
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.low <= value <= self.high:
            raise ValueError(f"is a {'whole ' * self.whole}number from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True)
class OneOf(Type):
    """One of some values. A list stands for its first entry: so ``/info/`` states choices, and clients send them."""

    values: tuple[str, ...]
    drop: bool = False  # accepted since clients send it back, but MONAI Label need not have it

    def checked(self, value: Any, facts: Facts) -> Any:
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            value = value[0]
        if not isinstance(value, str) or value not in self.values:
            raise ValueError("is " + " or ".join(each or "empty" for each in self.values))
        return None if self.drop else value


@dataclass(frozen=True)
class Device(Type):
    """cpu, cuda, cuda:0, ... or a name that ``/info/`` states."""

    def checked(self, value: Any, facts: Facts) -> Any:
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, str) or not (value in facts.devices or re.fullmatch(r"cpu|cuda(:\d{1,2})?", value)):
            raise ValueError("is cpu, cuda or cuda:0")
        return value


@dataclass(frozen=True)
class Text(Type):
    """A string of a pattern. ``null`` is left out."""

    pattern: str
    meaning: str

    def checked(self, value: Any, facts: Facts) -> Any:
        if value is None:
            return None
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(f"is {self.meaning}")
        return value


@dataclass(frozen=True)
class ImageId(Type):
    """The id of an image of the server: the name of a file of the user, so it may hold any character."""

    may_hold_marks = True
    empty: bool = False

    def checked(self, value: Any, facts: Facts) -> Any:
        if value == "" and self.empty:
            return value
        if not isinstance(value, str) or value not in facts.images:
            raise Refused(404, f"No image '{shown(value)}'. GET /datastore/?output=all lists those that there are.")
        return value


@dataclass(frozen=True)
class NewId(Type):
    """The id of an image that is uploaded."""

    def checked(self, value: Any, facts: Facts) -> Any:
        if not isinstance(value, str) or not NEW_ID.fullmatch(value) or value.endswith("."):
            raise ValueError("is letters, digits, spaces and . _ -, at most 128, and begins with a letter or a digit")
        if value in facts.images:
            raise Refused(409, f"There is an image '{value}' already. Images are not replaced: choose another id.")
        return value


@dataclass(frozen=True)
class Ids(Type):
    """A list of ids of images."""

    may_hold_marks = True

    def checked(self, value: Any, facts: Facts) -> Any:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError("is a list of ids")
        return [each for each in value if each in facts.images]


@dataclass(frozen=True)
class LabelInfo(Type):
    """The segments of a label, as 3D Slicer states them: ``[{"name": ..., "idx": ...}, ...]``. Colours are dropped."""

    def checked(self, value: Any, facts: Facts) -> Any:
        if not isinstance(value, list) or len(value) > 256 or not all(isinstance(each, dict) for each in value):
            raise ValueError("is a list of at most 256 segments")
        names = [each.get("name") for each in value]
        indices = [each.get("idx") for each in value]
        if not all(isinstance(name, str) and len(name) <= 128 for name in names):
            raise ValueError("has a name of at most 128 characters for each segment")
        if not all(isinstance(index, int) and 0 <= index < 2**16 for index in indices):
            raise ValueError("has a whole number idx for each segment")
        return [{"name": name, "idx": index} for name, index in zip(names, indices)]


Fields = Mapping[str, Type]


def checked_fields(given: Mapping[str, Any], fields: Fields, facts: Facts) -> dict[str, Any]:
    """Every value that was given, checked; what need not be passed on is left out."""
    found = {}
    for name, value in given.items():
        if name not in fields:
            known = f"There is: {', '.join(fields)}." if fields else "There is none here."
            raise Refused(422, f"No option '{shown(name)}'. {known}")
        if not fields[name].may_hold_marks and holds_marks(value):
            raise Refused(422, f"'{name}' holds one of {' '.join(MARKS)}, which are not accepted.")
        try:
            value = fields[name].checked(value, facts)
        except ValueError as error:
            raise Refused(422, f"'{name}' {error}.") from None
        if value is not None:
            found[name] = value
    return found


def holds_marks(value: Any) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in MARKS)
    if isinstance(value, dict):
        return any(holds_marks(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(map(holds_marks, value))


def read_json(text: bytes) -> dict[str, Any]:
    """An object without repeated keys, NaN and depth."""
    if len(text) > MAX_JSON:
        raise Refused(413, f"The JSON has more than {MAX_JSON // 1024} KiB.")
    if not text.strip():
        return {}
    try:
        found = json.loads(text, object_pairs_hook=unique_keys, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is no JSON, or has a key twice.") from None
    if not isinstance(found, dict):
        raise Refused(422, "The body is no JSON object.")
    return found


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def shown(value: Any) -> str:
    """A value of a request for a sentence: short and printable."""
    text = str(value)
    return "".join(c if c.isprintable() else "?" for c in text[:60]) + "..." * (len(text) > 60)
