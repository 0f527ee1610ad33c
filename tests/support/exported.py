# SPDX-License-Identifier: Apache-2.0
"""Exported networks whose outputs are known by hand, written by OpenVINO alone."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unetv2_monai.core.description import KEY, Description

RGB = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}  # of inference.json; a test compares them

exports_onnx = pytest.mark.skipif(
    torch.__version__.startswith("2.8.") or importlib.util.find_spec("onnxscript") is None,
    reason="takes onnxscript; the ONNX exporter of torch 2.8 has no adaptive max pooling",
)


def description(image_size: tuple[int, int] = (64, 64), **changes: Any) -> Description:
    values = {"version": "0", "weights_sha256": "", "backbone": "none", "in_channels": 3, "out_channels": 1}
    values |= {"classes": ("background", "lesion"), "threshold": 0.5, "certainty": 0.5, **RGB, "image_size": image_size}
    return Description(**{**values, **changes})  # type: ignore[arg-type]


def write_bright(path: Path, what: Description | None, slope: float = 0.05) -> Path:
    """A network in an ``.xml`` file whose logit is ``slope * (red - 128)``; of several classes, the second one's, and
    the third one's ``0.3 + 0.9 * slope * (green - 128)``: grey pixels of equal logits are rare.
    """
    import openvino
    from openvino import opset13 as ops

    image = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    std, mean = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (RGB["std"], RGB["mean"]))
    values = ops.add(ops.multiply(image, std), mean)
    logits = ops.multiply(ops.subtract(values, np.float32(128)), np.float32(slope))
    red, green, _ = ops.split(logits, np.int64(1), 3).outputs()
    classes = [red]
    if what is not None and what.out_channels == 3:
        other = ops.add(ops.multiply(green, np.float32(0.9)), np.float32(0.3))
        classes = [ops.multiply(red, np.float32(0)).output(0), red, other.output(0)]
    model = openvino.Model([ops.result(ops.concat(classes, 1))], [image])
    if what is not None:
        model.set_rt_info(what.to_json(), ["framework", KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path
