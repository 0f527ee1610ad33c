# SPDX-License-Identifier: Apache-2.0
"""Inferers against outputs computed another way."""

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch.utils._python_dispatch import TorchDispatchMode

from unetv2_monai import FlipInferer, SlabInferer

from .support.workflow import cases, refusal


def numbered(*shape: int) -> torch.Tensor:
    """1, 2, 3, ... in the shape of a window: a network that multiplies by them is not the same for a flipped window."""
    return torch.arange(1.0, 1 + math.prod(shape)).reshape(1, 1, *shape)


@pytest.mark.parametrize(("axes", "means"), cases("inferers", "means"))
def test_windows_are_flipped(axes, means):
    """Two windows of an image or a volume, and one window as a whole. The means of the flipped weights are by hand."""
    means = torch.tensor(means)
    window = means.shape
    image = MetaTensor(torch.randn(1, 1, 4, *window[1:]))
    found = FlipInferer(SlidingWindowInferer(window, overlap=0), axes)(image, numbered(*window).mul)
    torch.testing.assert_close(found.as_tensor(), image.as_tensor() * torch.cat([means, means]))
    whole = FlipInferer(axes=axes)(image[:, :, :2], numbered(*window).mul)
    torch.testing.assert_close(whole, image[:, :, :2].as_tensor() * means)


def test_slabs_of_flipped_windows():
    """The classes of the mean logits, not the mean of classes: the first logit is 4.5 times the voxel, the second 4."""
    image = torch.randn(1, 1, 6, 2, 2)

    def network(x):
        return torch.cat([numbered(2, 2, 2) * x, 4 * x], 1)

    found = FlipInferer(SlabInferer((2, 2, 2), overlap=0))(MetaTensor(image), network)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), (image < 0).long())
    assert not torch.equal(SlabInferer((2, 2, 2), overlap=0)(image, network).long(), (image < 0).long())


def test_axes_that_images_do_not_have():
    message = refusal(FlipInferer(axes=[2]), torch.zeros(1, 1, 2, 2), lambda x: x)
    assert "along axes [2]: images of 2 dimensions have the axes [0, 1]." in message


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("shape", "window", "arguments"), cases("inferers", "slabs"))
def test_slabs_are_windows(shape, window, arguments, classes):
    """The classes of SlidingWindowInferer, by a network whose output depends on where in its window a voxel is."""
    torch.manual_seed(0)
    image = torch.randn(2, 1, *shape, dtype=torch.float64)
    inside = torch.randn(1, classes, *window, dtype=torch.float64)

    def network(x):
        return inside * (1 + x) + x.mean()

    logits = SlidingWindowInferer(window, **arguments)(image, network)
    expected = logits.argmax(1, keepdim=True) if classes > 1 else (logits >= 0).long()
    found = SlabInferer(window, **arguments)(MetaTensor(image), network)
    assert found.dtype == torch.uint8
    assert isinstance(found, MetaTensor)  # so that transforms can be inverted
    assert len(expected.unique()) > 1
    assert torch.equal(found.long(), expected)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize(("inferer", "slices"), [(SlidingWindowInferer, 40), (SlabInferer, 4)])
def test_logits_that_are_kept(inferer, slices):
    """Those of all 40 slices, or of a slab of 4."""
    with Largest() as largest:
        inferer((4, 8, 8), overlap=0.25)(torch.rand(1, 1, 40, 8, 8), lambda x: torch.cat([x] * 50, 1))
    assert largest.numbers == 50 * slices * 8 * 8
