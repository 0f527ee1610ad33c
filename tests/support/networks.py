# SPDX-License-Identifier: Apache-2.0
"""A network whose answer is known, for tests of everything around the network."""

import torch
from torch import nn


class Bright(nn.Module):
    """Marks what is brighter than mid-grey (of images normalised by ImageNet's mean and deviation)."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * (x[:, :1] * 58.395 + 123.675 - 127.5) / 127.5


class NaNLoss(nn.Module):
    """The mean of the finest head, and nan from the call number ``after`` on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def forward(self, pred: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        self.after -= 1
        return pred[0].mean() * (1.0 if self.after > 0 else float("nan"))
