# SPDX-License-Identifier: Apache-2.0
"""Describe an exported network in its own file, so that it can be run without the configs. This module imports only the
standard library, since segment.py runs where torch is not installed.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError

KEY = "unetv2_monai"  # the key in ONNX's metadata_props; OpenVINO keeps it in rt_info below "framework"
BIN_KEY = f"{KEY}_bin_sha256"  # in an .xml file of OpenVINO: SHA-256 of the .bin file beside it
NORMALIZATION = "(pixel - mean) / std by channel, of RGB from 0 to 255 that was resized"


@dataclass(frozen=True)
class Description:
    """The values that are needed to run an exported network."""

    version: str  # of the package that exported it
    weights_sha256: str  # empty if the weights did not come from a file
    backbone: str
    in_channels: int
    out_channels: int  # 1: one structure, with a sigmoid; more: classes, with a softmax
    image_size: tuple[int, int]  # height and width that images are resized to (bilinear, without antialiasing)
    mean: tuple[float, ...]  # of each channel, 0 to 255
    std: tuple[float, ...]
    classes: tuple[str, ...]  # background first
    threshold: float | None  # probability from which a pixel of one structure is marked; None for several classes
    certainty: float  # a region is kept if its highest probability reaches this; values up to the threshold keep all
    normalization: str = NORMALIZATION
    view: str = ""  # "endoscope": images are cropped by find_view before they are resized; else empty

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """Read a description; raise ValueError when the text is not one."""
        try:
            found = {"view": "", **json.loads(text)}  # files of earlier versions state none
            values: dict[str, Any] = {field.name: found[field.name] for field in dataclasses.fields(cls)}
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        if values["view"] not in ("", "endoscope"):
            raise ValueError(f"its view is {values['view']!r}, which this version does not know")
        return cls(**values)


def refuse_other_bin(model: Any, xml: str | Path) -> None:
    """Raise InputError if an ``.xml`` file states the SHA-256 of its ``.bin`` file, and the one beside it differs."""
    place, weights = ["framework", BIN_KEY], Path(xml).with_suffix(".bin")
    stated = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None
    if stated and stated != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise InputError(f"{xml}: {weights.name} beside it is of another export. Copy both files of one export.")
