# SPDX-License-Identifier: Apache-2.0
"""Augmentation that MONAI lacks: images without a lesion, and batches of several sizes."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.engines import default_prepare_batch
from monai.transforms import MapTransform, Randomizable
from monai.utils import convert_to_dst_type
from torch.nn import functional as F

from ..core.errors import InputError

TRIALS = 20  # random places to try before an image is left unchanged
DARK = 40  # of 255; the black frame around an endoscope's view is darker
LIT = 0.6  # minimum share of a crop that is not dark
COVERABLE = 0.3  # share of the image; larger lesions are not covered
RIM = 6  # pixels around a lesion that are covered with it

Sample = tuple[torch.Tensor, torch.Tensor]  # image and mask


class RandLesionFreed(Randomizable, MapTransform):
    """Make some images lesion-free.

    A lesion-free image is either a crop beside the lesion, resized to the size of the image, or the full image with its
    lesion covered by another part of it. Neither resizing nor seams may reveal lesion-free images. So as many others
    are cropped anywhere, or covered beside the lesion. An image without room for the chosen change is left unchanged.

    Args:
        keys: keys of the uint8 image (channels, height, width) and of the mask (1, height, width), in this order. A
            mask of probabilities is lesion from 0.5 on.
        crop: share of images cropped beside the lesion; the same share of others is cropped anywhere. Defaults to 0.1.
        cover: share of images whose lesion is covered; the same share of others is covered elsewhere. Defaults to 0.05.
        size: range of the crops' height and width, as shares of the image's height and width. Defaults to (0.4, 0.8).

    Raises:
        InputError: when ``crop`` or ``cover`` is negative, or their sum is above 0.5. When called, for a volume or an
            image of another type than uint8.
    """

    def __init__(
        self, keys: KeysCollection, crop: float = 0.1, cover: float = 0.05, size: tuple[float, float] = (0.4, 0.8)
    ) -> None:
        super().__init__(keys)
        if min(crop, cover) < 0 or crop + cover > 0.5:
            raise InputError(f"crop and cover must be shares, together at most 0.5, got {crop} and {cover}.")
        self.crop, self.cover, self.size = crop, cover, size

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        image, mask = (torch.as_tensor(out[key]) for key in self.keys)
        if image.ndim != 3:
            raise InputError("RandLesionFreed is for images, not for volumes.")
        if image.dtype != torch.uint8:
            raise InputError(f"RandLesionFreed takes images of type uint8, got {image.dtype}. Normalise them after it.")
        rest = 1 - 2 * (self.crop + self.cover)
        kind = self.R.choice(5, p=[self.crop, self.crop, self.cover, self.cover, rest])
        if kind == 4:
            return out
        change = self._crop if kind < 2 else self._cover
        changed = change(image, mask, lesion_free=kind % 2 == 0)
        for key, value in zip(self.keys, changed or ()):
            out[key] = convert_to_dst_type(value, out[key])[0]
        return out

    def _crop(self, image: torch.Tensor, mask: torch.Tensor, lesion_free: bool) -> Sample | None:
        height, width = mask.shape[1:]
        lit = image.amax(0) > DARK
        for _ in range(TRIALS):
            h, w = (max(1, int(self.R.uniform(*self.size) * n)) for n in (height, width))
            top, left = self.R.randint(height - h + 1), self.R.randint(width - w + 1)
            rows, columns = slice(top, top + h), slice(left, left + w)
            found = mask[:, rows, columns]
            if lit[rows, columns].float().mean() > LIT and not (lesion_free and (found >= 0.5).any()):
                part = image[None, :, rows, columns].float()
                part = F.interpolate(part, (height, width), mode="bilinear", antialias=True)[0]
                cut = F.interpolate(found[None], (height, width), mode="nearest-exact")[0]
                return part.round().to(image.dtype), cut
        return None

    def _cover(self, image: torch.Tensor, mask: torch.Tensor, lesion_free: bool) -> Sample | None:
        lesion = F.max_pool2d(mask.float(), 2 * RIM + 1, stride=1, padding=RIM) >= 0.5
        if not lesion.any() or lesion.float().mean() > COVERABLE:
            return None
        lit = image.amax(0, keepdim=True) > DARK
        # to keep the lesion visible, cover a place of its shape that does not touch it
        to = (0, 0) if lesion_free else self._shift(lesion, lambda place: not (place & lesion).any())
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
        """Return a random shift (rows, columns) that moves the lesion's shape to a place that fits, or None."""
        height, width = lesion.shape[1:]
        rows, columns = (lesion[0].any(dim).nonzero() for dim in (1, 0))
        for _ in range(TRIALS):
            down = self.R.randint(-int(rows.min()), height - int(rows.max()))
            right = self.R.randint(-int(columns.min()), width - int(columns.max()))
            if fits(lesion.roll((down, right), (1, 2))):
                return down, right
        return None


def _blend(image: torch.Tensor, patch: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Put ``patch`` on the place, adapt its brightness to the surroundings, and fade its edge over some pixels."""
    weight = place.float()
    for _ in range(3):
        weight = F.avg_pool2d(weight, 7, stride=1, padding=3)
    weight = (weight * 2 - 0.4).clamp(0, 1)
    seam = (weight > 0) & (weight < 0.5)
    if seam.any():
        patch = patch + (image - patch)[:, seam[0]].mean(1)[:, None, None]
    return image * (1 - weight) + patch * weight


@dataclass
class MultiScaleBatch:
    """Resize each batch by one of several factors, chosen at random. Use it as ``prepare_batch`` of a MONAI trainer.

    Images and masks are resized bilinearly, as in PraNet's code (https://arxiv.org/abs/2006.11392), so masks become
    soft at their outlines. Masks of several classes, or with unknown pixels, are resized by the nearest pixel.

    When called, it returns images and masks of shape (Batch, channels, height, width). Volumes raise an InputError.
    """

    scales: Sequence[float]  # of the images' size, which is rounded to multiples of 32, the encoder's largest stride
    out_channels: int = 1  # of the network; if above 1, masks hold class indices

    def __call__(self, batchdata: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        prepared: Any = default_prepare_batch(batchdata, *args, **kwargs)
        image, label = prepared
        if image.ndim != 4:
            raise InputError("MultiScaleBatch is for images, not for volumes.")
        scale = self.scales[int(torch.randint(len(self.scales), (1,)))]
        size = [max(1, round(n * scale / 32)) * 32 for n in image.shape[2:]]
        image = F.interpolate(image, size, mode="bilinear", align_corners=True)
        if self.out_channels > 1 or label.max() > 1:  # which is ignore_label
            return image, F.interpolate(label, size, mode="nearest-exact")
        return image, F.interpolate(label, size, mode="bilinear", align_corners=True)
