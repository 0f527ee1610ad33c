# SPDX-License-Identifier: Apache-2.0
"""Muon on processors without bfloat16."""

from __future__ import annotations

import functools
from typing import Any

import torch
from timm.optim import muon

__all__ = ["fast_muon"]

ORTHOGONALISE = "zeropower_via_newtonschulz"


def fast_muon() -> bool:
    """
    Let timm's Muon orthogonalise its steps in float32 where the processor has no bfloat16.

    It does so in bfloat16. Without AVX-512 or the like, PyTorch's products of such matrices are about a hundred times
    as slow as in float32, and most of the time of a training step. Weights on a GPU are not affected.

    Returns:
        True if so, False where the processor has bfloat16.
    """
    if _has_bfloat16():
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


def _has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
