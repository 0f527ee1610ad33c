# SPDX-License-Identifier: Apache-2.0
"""Losses that no maintained library provides: of soft targets, of overlapping classes, and of the polyp literature."""

from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional as F

from .core.errors import InputError

__all__ = ["OverlapLoss", "SoftDiceCELoss", "StructureLoss"]


class SoftDiceCELoss(DiceCELoss):
    """Add Dice and cross-entropy loss for soft targets, 0 to 1. For masks of 0 and 1 it is MONAI's ``DiceCELoss``.

    MONAI's Dice half is not smallest where probabilities equal a soft target, but where they are 0 and 1. Here the
    overlap of p and t is (p + t - |p - t|) / 2 instead of p t.

    Based on: "Dice Semimetric Losses: Optimizing the Dice Score with Soft Labels", https://arxiv.org/abs/2303.16296.

    Args:
        kwargs: arguments of :py:class:`monai.losses.DiceCELoss`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dice.soft_label = True  # an argument of DiceLoss that DiceCELoss lacks


class OverlapLoss(nn.Module):
    """Compute a loss of one structure for each of several classes that overlap, and take the mean over the classes.

    The probability of a class is the sum of those of all values that include it, by a softmax over the values. If all
    combinations are values, a network can make the classes independent, as with a sigmoid for each.

    Args:
        loss: the loss of logits and masks of shape (Batch, 1, ...).
        table: which value includes which class, from :py:func:`unetv2_monai.overlap_table`.
    """

    def __init__(self, loss: nn.Module, table: np.ndarray) -> None:
        super().__init__()
        self.loss, self.classes = loss, torch.from_numpy(table[1:])

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of raw logits (Batch, values, ...) and masks of values (Batch, 1, ...)."""
        classes, values = self.classes.to(input.device), input.float()
        logits = [values[:, one].logsumexp(1) - values[:, ~one].logsumexp(1) for one in classes]
        masks = [one[target[:, 0].long()].to(values.dtype) for one in classes]
        return self.loss(torch.cat(logits)[:, None], torch.cat(masks)[:, None])


class StructureLoss(nn.Module):
    """Add a weighted binary cross-entropy and a weighted IoU loss. Pixels near the outline of the mask weigh more.

    The weight of a pixel is 1 + 5 |mean of the mask in the 31 x 31 pixels around it - mask|, with zeros outside of the
    image.

    Based on: "F3Net: Fusion, Feedback and Focus for Salient Object Detection", https://arxiv.org/abs/1911.11445; used
    for polyps since PraNet, https://arxiv.org/abs/2006.11392.

    Args:
        bce_weighting: whether the cross-entropy is weighted, as the papers write. The released code of PraNet and of
            U-Net v2 takes the plain mean: PyTorch reads their ``reduce="none"`` as True, and the weights cancel.
            Defaults to True.
    """

    def __init__(self, bce_weighting: bool = True) -> None:
        super().__init__()
        self.bce_weighting = bce_weighting

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss, a scalar.

        Args:
            input: raw logits of shape (Batch, 1, height, width).
            target: masks of the same shape, 0 to 1.

        Raises:
            InputError: when ``input`` has several channels or is a batch of volumes.
        """
        if input.ndim != 4:
            raise InputError(f"StructureLoss is for images, not for volumes: input has the shape {tuple(input.shape)}.")
        if input.shape[1] != 1:
            raise InputError(f"StructureLoss is for one structure (out_channels 1), not for {input.shape[1]} channels.")
        target = target.to(input.dtype)
        weight = 1 + 5 * (F.avg_pool2d(target, kernel_size=31, stride=1, padding=15) - target).abs()
        bce = F.binary_cross_entropy_with_logits(input, target, reduction="none")
        bce = (weight * bce).sum((2, 3)) / weight.sum((2, 3)) if self.bce_weighting else bce.mean()
        probability = torch.sigmoid(input)
        overlap = (weight * probability * target).sum((2, 3))
        union = (weight * (probability + target)).sum((2, 3)) - overlap
        return (bce + 1 - (overlap + 1) / (union + 1)).mean()
