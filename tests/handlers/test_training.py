# SPDX-License-Identifier: Apache-2.0
"""Handlers that act on weights and gradients, against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer

from unetv2_monai import ClipGradients, EpochMean, MovingAverage


class Slope(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [3.0, 4.0]),
        ({"max_norm": 1.0}, [0.6, 0.8]),
        ({"max_value": 3.5}, [3.0, 3.5]),
        ({"max_norm": 10.0}, [3.0, 4.0]),
    ],
)
def test_gradients_are_limited_before_the_step(limits, expected):
    """The loss 3 a + 4 b has the gradient (3, 4) of norm 5; a step of size 1 subtracts it."""
    network = Slope()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.tensor([[3.0, 4.0]]), "label": torch.zeros(1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda pred, label: pred.sum(),
        train_handlers=[ClipGradients(network, **limits)],
        decollate=False,
    )
    trainer.run()
    assert network.weight.tolist() == pytest.approx([-value for value in expected], abs=1e-5)


def steps(network: Slope, values: list[float], handler, epoch_length: int) -> list[float]:
    """Set the weights to each value in turn, an iteration each; the average after each epoch."""
    seen = []

    def step(engine: Engine, batch: float) -> None:
        with torch.no_grad():
            network.weight.fill_(batch)

    engine = Engine(step)
    handler.attach(engine)
    engine.add_event_handler("EPOCH_COMPLETED", lambda e: seen.append(handler.average.module.weight[0].item()))
    engine.run(values, max_epochs=len(values) // epoch_length, epoch_length=epoch_length)
    return seen


def test_mean_of_the_ends_of_epochs():
    network = Slope()
    average = torch.optim.swa_utils.AveragedModel(network)
    found = steps(network, [1, 2, 3, 4, 5, 8], EpochMean(average, network, start=2), epoch_length=2)
    assert found == pytest.approx([2, 4, (4 + 8) / 2])


def test_moving_average():
    timm_utils = pytest.importorskip("timm.utils")
    network = Slope()
    average = timm_utils.ModelEmaV3(network, decay=0.75)
    found = steps(network, [4, 8], MovingAverage(average, network), epoch_length=1)
    first = found[0]
    assert found[1] == pytest.approx(0.75 * first + 0.25 * 8)
