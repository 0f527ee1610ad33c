# SPDX-License-Identifier: Apache-2.0
"""The options of the configs, with their kinds of values. ``options.yaml`` lists them, ``check_options`` refuses other
values, and ``scripts/document_options.py`` writes docs/reference/options.md from them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name in messages, such as "a positive integer", and a test whether a value is of it."""

    name: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Option:
    """The kind of an option's value, and the option's meaning, in Markdown for the reference."""

    kind: Kind
    meaning: str
    default: str = ""  # in words, if the config computes it
    files: Sequence[str] = ()  # the overlays that define it; empty if the main configs do


def is_integer(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_list(value: Any, kind: Kind) -> bool:
    return isinstance(value, list | tuple) and all(map(kind.accepts, value))


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str))
PATH = Kind("a path", lambda value: isinstance(value, str) and bool(value))
POSITIVE = Kind("a positive integer", lambda value: is_integer(value, 1))
NATURAL = Kind("an integer of 0 or more", lambda value: is_integer(value, 0))
NUMBER = Kind("a number", lambda value: is_number(value) and math.isfinite(value))
RATE = Kind("a number of 0 or more", lambda value: is_number(value, 0) and math.isfinite(value))
ABOVE_ZERO = Kind("a number above 0", lambda value: is_number(value, 0) and 0 < value < math.inf)
SHARE = Kind("a number from 0 to 1", lambda value: is_number(value, 0, 1))
PART = Kind("a number above 0 and below 1", lambda value: is_number(value, 0, 1) and 0 < value < 1)
SIZE = Kind(
    "a positive integer, or a list of two or three",
    lambda value: POSITIVE.accepts(value) or (is_list(value, POSITIVE) and len(value) in (2, 3)),
)
WEIGHTS = Kind("auto, true, false, or a file", lambda value: isinstance(value, bool | str))
BACKBONE = Kind("the name of a backbone", lambda value: isinstance(value, str) and bool(value))
DEVICE = Kind("a device such as cpu, cuda or cuda:1", lambda value: isinstance(value, str | torch.device | int))
SECTION = Kind("training, validation, test or all", lambda value: value in ("training", "validation", "test", "all"))
SCALES = Kind("a list of numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and bool(value))
SPACING = Kind("a list of three numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and len(value) == 3)
AXIS = Kind("an axis from 0 to 2", lambda value: is_integer(value, 0) and value < 3)
AXES = Kind("a list of different axes from 0 to 2", lambda value: is_list(value, AXIS) and len({*value}) == len(value))
NAMES = Kind("a list of names", lambda value: is_list(value, TEXT))
FILES = Kind("a list of files", NAMES.accepts)
COLORS = Kind("a table of classes by colour", lambda value: isinstance(value, dict) and bool(value))
VALUES = Kind(
    "a table of values by class",
    lambda value: isinstance(value, dict) and bool(value) and all(v and is_list(v, POSITIVE) for v in value.values()),
)
LABEL = Kind("an integer from 1 to 255", lambda value: is_integer(value, 1) and value < 256)
INTENSITY = Kind("mr or ct", lambda value: value in ("mr", "ct"))
PRECISION = Kind("f32 or bf16", lambda value: value in ("f32", "bf16"))
KINDS = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


def kind_of(name: str) -> Kind:
    """Return a kind of ``KINDS``, which may take null as well."""
    kind = KINDS[name.removesuffix(", or null")]
    return kind if kind.name == name else Kind(name, lambda value: value is None or kind.accepts(value))


OPTIONS = {
    section: {name: Option(kind_of(entry.pop("type")), **entry) for name, entry in table.items()}
    for section, table in yaml.safe_load(Path(__file__).with_name("options.yaml").read_text()).items()
}
