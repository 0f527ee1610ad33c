# SPDX-License-Identifier: Apache-2.0
"""
What an exported file says about itself, so that it can be run without the configs.

Only the standard library is imported: segment.py runs where there is no torch.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["KEY", "Description"]

KEY = "unetv2_monai"  # of ONNX's metadata_props, which OpenVINO keeps in rt_info below "framework"
NORMALIZATION = "(pixel - mean) / std by channel, of RGB from 0 to 255 that was resized"


@dataclass(frozen=True)
class Description:
    """
    Args:
        version: of the package that exported the file.
        weights_sha256: SHA-256 of the file of weights; empty if they came from none.
        backbone: name of the encoder.
        in_channels: of the image.
        out_channels: of the logits. 1 is one structure by a sigmoid, more are classes by a softmax.
        image_size: height and width in pixels that an image is resized to (bilinear, without antialiasing).
        mean: subtracted from each channel, of values from 0 to 255.
        std: divides each channel.
        classes: their names, background first.
        threshold: of the probability of one structure; None for several classes.
        certainty: a region is kept only if its probability reaches this somewhere. Up to the threshold: all are kept.
        normalization: in words.
    """

    version: str
    weights_sha256: str
    backbone: str
    in_channels: int
    out_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    threshold: float | None
    certainty: float
    normalization: str = NORMALIZATION

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Description:
        """
        Raises:
            ValueError: when the text is not a description.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            known = {field.name: values[field.name] for field in dataclasses.fields(cls)}
            lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        return cls(**{**known, **lists})
