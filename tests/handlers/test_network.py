# SPDX-License-Identifier: Apache-2.0
"""Handlers that act on gradients, against values computed by hand."""

import pytest
import torch
from monai.engines import SupervisedTrainer

from unetv2_monai import ClipGradients

LIMITS = [({}, [3, 4]), ({"max_norm": 1}, [0.6, 0.8]), ({"max_value": 3.5}, [3, 3.5]), ({"max_norm": 10}, [3, 4])]


@pytest.mark.parametrize(("limits", "expected"), LIMITS)
def test_gradients_are_limited_before_the_step(limits, expected):
    """The loss 3 a + 4 b has the gradient (3, 4) of norm 5; a step of size 1 subtracts it."""
    network = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    batches = [{"image": torch.tensor([[3.0, 4.0]]), "label": torch.zeros(1)}]
    optimizer, handlers = torch.optim.SGD(network.parameters(), lr=1.0), [ClipGradients(network, **limits)]
    options = {"train_handlers": handlers, "decollate": False}
    trainer = SupervisedTrainer(torch.device("cpu"), 1, batches, network, optimizer, lambda x, _: x.sum(), **options)
    trainer.run()
    assert network.weight[0].tolist() == pytest.approx([-value for value in expected], abs=1e-5)
