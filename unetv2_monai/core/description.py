# SPDX-License-Identifier: Apache-2.0
"""
What an exported file says about itself, so that it can be run without the configs.

Only the standard library is imported: segment.py runs where there is no torch.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["KEY", "Description"]

KEY = "unetv2_monai"  # of ONNX's metadata_props, which OpenVINO keeps in rt_info below "framework"
NORMALIZATION = "(pixel - mean) / std by channel, of RGB from 0 to 255 that was resized"


@dataclass(frozen=True)
class Description:
    """What is needed to run an exported file."""

    version: str  # of the package that exported it
    weights_sha256: str  # empty if they came from no file
    backbone: str
    in_channels: int
    out_channels: int  # 1 is one structure by a sigmoid, more are classes by a softmax
    image_size: tuple[int, int]  # height and width that images are resized to (bilinear, without antialiasing)
    mean: tuple[float, ...]  # of each channel, 0 to 255
    std: tuple[float, ...]
    classes: tuple[str, ...]  # background first
    threshold: float | None  # of the probability of one structure; None for several classes
    certainty: float  # a region is kept if its probability reaches this; up to the threshold all are kept
    normalization: str = NORMALIZATION

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """Read a description; ValueError when the text is none."""
        try:
            found = json.loads(text)
            values: dict[str, Any] = {field.name: found[field.name] for field in dataclasses.fields(cls)}
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)
