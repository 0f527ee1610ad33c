# SPDX-License-Identifier: Apache-2.0
"""Inferers against outputs computed another way."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from unetv2_monai import AutocastInferer, FlipInferer, PlainInferer


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
