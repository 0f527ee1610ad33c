# SPDX-License-Identifier: Apache-2.0
"""bfloat16 on processors without it, where PyTorch needs many times as long as with float32."""

import functools
from typing import Any

import torch
from timm.optim import muon

__all__ = ["fast_muon", "has_bfloat16"]

ORTHOGONALISE = "zeropower_via_newtonschulz"


def fast_muon() -> bool:
    """
    Let timm's Muon orthogonalise its steps on the CPU in float32 where the processor has no bfloat16; else return
    False.

    In bfloat16 those products take most of a training step there (docs/results/performance.md).
    """
    if has_bfloat16():
        return False
    original = getattr(muon, ORTHOGONALISE)
    original = getattr(original, "__wrapped__", original)  # of an earlier call

    @functools.wraps(original)
    def orthogonalise(gradient: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if gradient.device.type == "cpu":
            options = {"dtype": torch.float32, **options}
        return original(gradient, *arguments, **options)

    setattr(muon, ORTHOGONALISE, orthogonalise)
    return True


def has_bfloat16() -> bool:
    """Tell whether PyTorch has fast products in bfloat16 on this processor, such as one with AVX-512."""
    # without oneDNN, as in PyTorch for Apple Silicon, there is no such operator
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
