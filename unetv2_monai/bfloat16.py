# SPDX-License-Identifier: Apache-2.0
"""Detect CPUs without bfloat16, on which PyTorch takes many times as long in bfloat16 as in float32."""

import functools
from typing import Any

import torch
from timm.optim import muon

ORTHOGONALISE = "zeropower_via_newtonschulz"


def fast_muon() -> bool:
    """
    Make timm's Muon orthogonalise its steps in float32 if the CPU has no bfloat16; return whether this was needed.

    On such a CPU, the matrix products of the orthogonalisation in bfloat16 take most of a training step
    (docs/results/performance.md).
    """
    if has_bfloat16():
        return False
    original = getattr(muon, ORTHOGONALISE)
    original = getattr(original, "__wrapped__", original)  # if an earlier call has wrapped it

    @functools.wraps(original)
    def orthogonalise(gradient: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if gradient.device.type == "cpu":
            options = {"dtype": torch.float32, **options}
        return original(gradient, *arguments, **options)

    setattr(muon, ORTHOGONALISE, orthogonalise)
    return True


def has_bfloat16() -> bool:
    """Tell whether PyTorch has fast matrix products in bfloat16 on this CPU, for example on one with AVX-512."""
    # PyTorch without oneDNN, such as PyTorch for Apple Silicon, does not have this operator
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
