# SPDX-License-Identifier: Apache-2.0
"""Quantise an OpenVINO network to int8 after training, by NNCF. The operations whose quantisation changes the masks
most, as measured, are left in float32.
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch

CALIBRATION_IMAGES = 100  # with 300 the masks agree no better
LEAST_IMAGES = 16  # with fewer, ranges of activations depend on chance
WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}
# Places in the order of convolutions: stem, depthwise layer and the first two projections of EfficientNet-Lite. They
# have few multiplications, and their errors pass through all layers.
EARLY = (0, 1, 2, 5)
MODULES = ("gates.", "decoder.", "heads.")
# products of SDI, gates, normalisations, attention; resizing is computed in float32 anyway
ARITHMETIC = {"Multiply", "ReduceMean", "ReduceMax", "Sigmoid", "MVN", "Softmax", "Interpolate"}


def quantise(model: Any, images: Sequence[torch.Tensor]) -> Any:
    """Quantise an ``openvino.Model`` in place; preprocessed training images give the ranges of its activations."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([image.numpy() for image in images]),
            # MIXED quantises activations asymmetrically, for GELU, whose outputs are hardly negative. Elsewhere that is
            # no more exact than symmetric quantisation, and it slows OpenVINO's depthwise layers down.
            preset=nncf.QuantizationPreset.MIXED if _has_linear_layers(model) else nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=float_operations(model)),
            # the correction doubles the error of PVTv2's logits and hardly changes that of EfficientNet-Lite
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )


def float_operations(model: Any) -> list[str]:
    """Return the operations left in float32: some of the first convolutions, gates, decoder, heads, normalisations,
    sums and products of activations, products in attention; in a network with linear layers also all depthwise
    convolutions.
    """
    operations = model.get_ordered_ops()
    convolutions = [one for one in operations if one.get_type_name() in ("Convolution", "GroupConvolution")]
    early = [convolutions[place] for place in EARLY if place < len(convolutions)]
    if _has_linear_layers(model):
        # between two linear layers of PVTv2 in int8, a depthwise one in int8 gives wrong outputs in OpenVINO 2026.4
        early += [one for one in convolutions if one.get_type_name() == "GroupConvolution"]
    return sorted({one.get_friendly_name() for one in [*early, *filter(_stays_float, operations)]})


def _has_linear_layers(model: Any) -> bool:
    return any(one.get_type_name() == "MatMul" for one in model.get_ops())


def _stays_float(one: Any) -> bool:
    kind, sources = one.get_type_name(), [_source(port) for port in one.inputs()]
    weights = [source.get_friendly_name() for source in sources if source.get_type_name() == "Constant"]
    if kind in ARITHMETIC:
        return True
    if kind in WEIGHTED and weights:
        return weights[0].startswith(MODULES)
    return kind in ("Add", "MatMul") and not weights


def _source(port: Any) -> Any:
    """Return the node that an input comes from, before changes of shape, type or axis order."""
    node = port.get_source_output().get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return node
