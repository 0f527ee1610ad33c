# SPDX-License-Identifier: Apache-2.0
"""What happens where the processor has no bfloat16."""

import torch
from timm.optim import create_optimizer_v2, muon

from unetv2_monai import fast_muon

ORIGINAL = muon.zeropower_via_newtonschulz


def step() -> torch.Tensor:
    """What a step of Muon changes."""
    layer = torch.nn.Linear(6, 4, bias=False)
    torch.nn.init.zeros_(layer.weight)
    layer.weight.grad = torch.linspace(-1, 2, 24).reshape(4, 6) + torch.eye(4, 6)
    create_optimizer_v2(layer, opt="muon", lr=1.0, weight_decay=0.0).step()
    return layer.weight.detach()


def test_steps_are_the_same_but_for_rounding(monkeypatch):
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(ORIGINAL, "func", ORIGINAL))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not fast_muon()
    rounded = step()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fast_muon()
    assert fast_muon()  # once more, as by another config of the process
    exact = step()
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.02 * exact.abs().max()
