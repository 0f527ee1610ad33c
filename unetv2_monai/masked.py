# SPDX-License-Identifier: Apache-2.0
"""Pixels of unknown class: excluded from losses and from scores."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.losses import DeepSupervisionLoss
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from torch import nn

__all__ = ["ClearIgnoredd", "IgnoringLoss", "ignoring"]


class IgnoringLoss(nn.Module):
    """Compute a loss over the pixels whose class is known, image by image, and take the mean over the images.

    MONAI's ``MaskedLoss`` multiplies logits and masks by zero, so a pixel that it leaves out has the probability 0.5.
    Here such pixels are removed. So the loss must not depend on where a pixel is, as ``StructureLoss`` does. A Dice
    over the batch becomes one over each image.

    Args:
        loss: the loss, of logits (1, channels, pixels) and classes (1, 1, pixels).
        ignore_label: the value of unknown pixels in the masks.
    """

    def __init__(self, loss: nn.Module, ignore_label: int) -> None:
        super().__init__()
        self.loss, self.ignore_label = loss, ignore_label

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss of logits (Batch, channels, ...) and masks (Batch, 1, ...); 0 if no pixel is known."""
        known = target[:, 0] != self.ignore_label
        if known.all():
            return self.loss(input, target)
        losses = [
            self.loss(logits[:, of_image][None], mask[:, of_image][None])
            for logits, mask, of_image in zip(input, target, known)
            if of_image.any()
        ]
        return torch.stack(losses).mean() if losses else 0.0 * input.sum()


def ignoring(loss: nn.Module, ignore_label: int) -> nn.Module:
    """Return a loss that ignores pixels of this value, at each head if the loss is of several."""
    if isinstance(loss, DeepSupervisionLoss):
        loss.loss = IgnoringLoss(loss.loss, ignore_label)  # type: ignore[assignment]
        return loss
    return IgnoringLoss(loss, ignore_label)


class ClearIgnoredd(MapTransform):
    """Make predictions and masks background where the mask has ``ignore_label``, so that no score counts these pixels.

    ``valid`` of the item becomes a boolean mask of all other pixels, for scores that divide by their number.

    Args:
        keys: keys of probabilities or masks of shape (channels, ...); of several channels, the first is background.
        ignore_label: the value of unknown pixels in ``label``, of shape (1, ...).
    """

    def __init__(self, keys: KeysCollection, ignore_label: int) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.ignore_label = ignore_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with cleared predictions and mask."""
        item = dict(data)
        ignored = convert_to_tensor(item["label"]) == self.ignore_label
        for key in self.key_iterator(item):
            background = torch.zeros_like(item[key])
            background[0] = len(item[key]) > 1
            item[key] = torch.where(ignored.to(item[key].device), background, item[key])
        item["label"] = torch.where(ignored, torch.zeros_like(item["label"]), item["label"])
        return item | {"valid": ~ignored}
