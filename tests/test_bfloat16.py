# SPDX-License-Identifier: Apache-2.0
"""What happens where the processor has no bfloat16."""

import pytest
import torch
from timm.optim import create_optimizer_v2, muon

from unetv2_monai import bfloat16, fast_muon

ORIGINAL = muon.zeropower_via_newtonschulz
GRADIENT = torch.linspace(-1, 2, 24).reshape(4, 6) + torch.eye(4, 6)


@pytest.fixture
def processor(monkeypatch):
    """Sets whether the processor has bfloat16."""
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(ORIGINAL, "__wrapped__", ORIGINAL))
    return lambda has: monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: has)


def step() -> torch.Tensor:
    """What a step of Muon changes."""
    layer = torch.nn.Linear(6, 4, bias=False)
    torch.nn.init.zeros_(layer.weight)
    layer.weight.grad = GRADIENT.clone()
    create_optimizer_v2(layer, opt="muon", lr=1.0, weight_decay=0.0).step()
    return layer.weight.detach()


def orthogonalised(**options) -> torch.Tensor:
    coefficients = [(3.4445, -4.7750, 2.0315)]
    return muon.zeropower_via_newtonschulz(GRADIENT, 5, coefficients, **options)


def test_types(processor):
    processor(True)
    assert not fast_muon()
    assert orthogonalised().dtype == torch.bfloat16
    processor(False)
    assert fast_muon()
    assert fast_muon()  # once more, as by another config of the process
    assert orthogonalised().dtype == torch.float32
    assert orthogonalised(dtype=torch.bfloat16).dtype == torch.bfloat16


def test_steps_are_the_same_but_for_rounding(processor):
    processor(True)
    fast_muon()
    rounded = step()
    processor(False)
    fast_muon()
    exact = step()
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.02 * exact.abs().max()
