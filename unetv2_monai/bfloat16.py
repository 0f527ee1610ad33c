# SPDX-License-Identifier: Apache-2.0
"""Detect CPUs without bfloat16, on which PyTorch takes many times as long in bfloat16 as in float32."""

from functools import partial

import torch
from timm.optim import muon

ORTHOGONALISE = "zeropower_via_newtonschulz"


def fast_muon() -> bool:
    """Make timm's Muon orthogonalise its steps in float32 if the machine has no bfloat16; return whether it does so.

    On a CPU without bfloat16, the matrix products of the orthogonalisation in bfloat16 take most of a training step
    (docs/results/performance.md).
    """
    # PyTorch without oneDNN, such as PyTorch for Apple Silicon, does not have this operator
    fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if torch.cuda.is_available() or fast:
        return False
    setattr(muon, ORTHOGONALISE, partial(getattr(muon, ORTHOGONALISE), dtype=torch.float32))
    return True
