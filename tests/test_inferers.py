# SPDX-License-Identifier: Apache-2.0
"""Inferers against outputs computed another way."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch.utils._python_dispatch import TorchDispatchMode

from unetv2_monai import AutocastInferer, FlipInferer, PlainInferer, SlabInferer


def test_plain_tensors():
    seen = []
    PlainInferer()(MetaTensor(torch.ones(1, 3, 4, 4)), lambda x: seen.append(type(x)))
    assert seen == [torch.Tensor]


@pytest.mark.parametrize("shape", [(1, 2, 6, 4), (2, 1, 6, 4, 2)])
def test_all_combinations_of_flips(shape):
    """Against a mean over every choice of flipping or not, dimension by dimension."""
    weight, image, expected = torch.rand(shape), torch.rand(shape), torch.zeros(shape)
    choices = list(product([False, True], repeat=len(shape) - 2))
    for choice in choices:
        dims = [2 + dim for dim, flipped in enumerate(choice) if flipped]
        expected += (weight * image.flip(dims)).flip(dims)
    assert torch.allclose(FlipInferer()(image, weight.mul), expected / len(choices), atol=1e-6)


def test_flips_through_windows():
    """A network that judges each pixel alone gives the same, whatever is nested."""
    image = torch.rand(1, 1, 40, 56)
    inferer = FlipInferer(SlidingWindowInferer(roi_size=(32, 32), overlap=0.25))
    assert torch.allclose(inferer(image, lambda x: 3 * x - 1), 3 * image - 1, atol=1e-5)


def test_reduced_precision_is_used_and_given_back():
    torch.manual_seed(0)
    layer, seen = torch.nn.Conv2d(3, 4, 3), []

    def network(x):
        out = layer(x)
        seen.append(out.dtype)
        return [out, out[:, :1]]

    image = torch.rand(1, 3, 8, 8)
    outputs = AutocastInferer("bfloat16")(image, network)
    assert seen == [torch.bfloat16]
    assert [out.dtype for out in outputs] == [torch.float32] * 2
    assert torch.allclose(outputs[0], layer(image), atol=2e-2)
    assert not torch.equal(outputs[0], layer(image))
    assert AutocastInferer()(image, layer).dtype == torch.float32


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(
    ("shape", "window", "arguments"),
    [
        ((20, 17, 13), (8, 6, 7), {"overlap": 0.25}),
        ((20, 17, 13), (8, 6, 7), {"overlap": 0.5, "mode": "gaussian", "sw_batch_size": 3}),
        ((21, 9, 9), (8, 8, 8), {"overlap": (0.75, 0.2, 0.0), "mode": "gaussian", "sigma_scale": 0.3}),
        ((8, 17, 5), (8, 6, 9), {"overlap": 0.25}),  # one slab; windows larger than the volume
        ((3, 2, 1), (8, 6, 7), {"mode": "gaussian"}),
        ((30, 14), (8, 9), {"overlap": 0.5, "mode": "gaussian"}),
    ],
)
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
