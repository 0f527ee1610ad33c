# SPDX-License-Identifier: Apache-2.0
"""Images without a lesion, made of training images that all have one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch.nn import functional as F

from ..core.errors import InputError

__all__ = ["RandLesionFreed"]

TRIALS = 20  # draws of a place before an image is left as it is
DARK = 40  # of 255: below it is the frame around what an endoscope sees
LIT = 0.6  # share of a crop that must be lit
COVERABLE = 0.3  # of the image: larger lesions are not covered
RIM = 6  # pixels around a lesion that are covered with it


class RandLesionFreed(RandomizableTransform, MapTransform):
    """
    Make some images lesion-free: a crop beside the lesion, resized to the size of the image, or the full image with its
    lesion covered by another part of it.

    So that neither the upsampling nor the seam tells lesion-free images, as many others are cropped anywhere, or have a
    place beside the lesion covered. An image without room for what was drawn stays as it is. It works on bytes, before
    normalisation, and on one structure in two dimensions.

    Args:
        keys: of the image (channels, height, width), 0 to 255, and of the mask (1, height, width), in this order.
        crop: share of images to crop beside the lesion, and of others to crop anywhere. Defaults to 0.1.
        cover: share of images whose lesion is covered, and of others with another place covered. Defaults to 0.05.
        size: range of the height and width of crops, as shares of those of the image. Defaults to (0.4, 0.8).

    Raises:
        InputError: when ``crop`` and ``cover`` are not shares, or together more than a half; when called, for an image
            of another type than uint8, as after normalisation.
    """

    def __init__(
        self, keys: KeysCollection, crop: float = 0.1, cover: float = 0.05, size: tuple[float, float] = (0.4, 0.8)
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if min(crop, cover) < 0 or crop + cover > 0.5:
            raise InputError(
                "lesion_free_crops and lesion_free_covers must be shares, together at most 0.5, "
                f"got {crop} and {cover}."
            )
        self.crop, self.cover, self.size = crop, cover, size

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        image, mask = (torch.as_tensor(out[key]) for key in self.keys)
        if image.ndim != 3:
            raise InputError("options/lesion_free.yaml is for images, not for volumes: leave it out.")
        if image.dtype != torch.uint8:
            raise InputError(
                f"lesion-free images are made of bytes, got {image.dtype}. Add recipes/recommended.yaml before "
                "options/lesion_free.yaml: it normalises images last."
            )
        rest = 1 - 2 * (self.crop + self.cover)
        kind = self.R.choice(5, p=[self.crop, self.crop, self.cover, self.cover, rest])
        changed = None
        if kind < 2:
            changed = self._crop(image, mask, lesion_free=kind == 0)
        elif kind < 4:
            changed = self._cover(image, mask, lesion_free=kind == 2)
        for key, value in zip(self.keys, changed or ()):
            old = out[key]
            out[key] = MetaTensor(value, meta=old.meta) if isinstance(old, MetaTensor) else value
        return out

    def _crop(
        self, image: torch.Tensor, mask: torch.Tensor, lesion_free: bool
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        height, width = mask.shape[1:]
        lit = image.amax(0) > DARK
        for _ in range(TRIALS):
            h, w = (max(1, int(self.R.uniform(*self.size) * n)) for n in (height, width))
            top, left = self.R.randint(height - h + 1), self.R.randint(width - w + 1)
            rows, columns = slice(top, top + h), slice(left, left + w)
            found = mask[:, rows, columns]
            if lit[rows, columns].float().mean() > LIT and not (lesion_free and found.any()):
                part = image[None, :, rows, columns].float()
                part = F.interpolate(part, (height, width), mode="bilinear", antialias=True)[0]
                return part.round().to(image.dtype), F.interpolate(found[None], (height, width), mode="nearest")[0]
        return None

    def _cover(
        self, image: torch.Tensor, mask: torch.Tensor, lesion_free: bool
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        lesion = F.max_pool2d(mask.float(), 2 * RIM + 1, stride=1, padding=RIM) > 0
        if not mask.any() or lesion.float().mean() > COVERABLE:
            return None
        lit = image.amax(0, keepdim=True) > DARK
        to: tuple[int, int] | None = (0, 0)
        if not lesion_free:  # a place of the lesion's shape that does not touch it
            to = self._shift(lesion, lambda place: not (place & lesion).any())
        if to is None:
            return None
        covered = lesion.roll(to, (1, 2))
        taken = self._shift(
            lesion, lambda place: not (place & (lesion | covered)).any() and (lit & place).sum() > 0.9 * place.sum()
        )
        if taken is None:
            return None
        patch = image.roll((to[0] - taken[0], to[1] - taken[1]), (1, 2)).float()
        mixed = _blend(image.float(), patch, covered)
        return mixed.clamp(0, 255).round().to(image.dtype), torch.zeros_like(mask) if lesion_free else mask

    def _shift(self, lesion: torch.Tensor, fits: Callable[[torch.Tensor], Any]) -> tuple[int, int] | None:
        """Draw by how many rows and columns to shift the lesion's shape, within the image, until the place fits."""
        height, width = lesion.shape[1:]
        rows, columns = (lesion[0].any(dim).nonzero() for dim in (1, 0))
        for _ in range(TRIALS):
            down = self.R.randint(-int(rows.min()), height - int(rows.max()))
            right = self.R.randint(-int(columns.min()), width - int(columns.max()))
            if fits(lesion.roll((down, right), (1, 2))):
                return down, right
        return None


def _blend(image: torch.Tensor, patch: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Put ``patch`` on the place: in the light of its surroundings, with a seam that fades over some pixels."""
    weight = place.float()
    for _ in range(3):
        weight = F.avg_pool2d(weight, 7, stride=1, padding=3)
    weight = (weight * 2 - 0.4).clamp(0, 1)
    seam = (weight > 0) & (weight < 0.5)
    if seam.any():
        patch = patch + (image - patch)[:, seam[0]].mean(1)[:, None, None]
    return image * (1 - weight) + patch * weight
