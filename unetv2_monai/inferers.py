# SPDX-License-Identifier: Apache-2.0
"""Ways to pass images through a network, as MONAI inferers that can be nested."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_tensor

__all__ = ["AutocastInferer", "FlipInferer", "OpenVINOInferer", "PlainInferer"]


class PlainInferer(Inferer):
    """
    Pass plain tensors to the network.

    MONAI's ``MetaTensor`` takes every operation of the network through Python, which ``SimpleInferer`` lets happen:
    a third of the time of a small network on a CPU (docs/results/performance.md).
    """

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: called with them and the other arguments.

        Returns:
            What the network returns.
        """
        return network(convert_to_tensor(inputs, track_meta=False), *args, **kwargs)


class FlipInferer(Inferer):
    """
    Test-time augmentation: the mean of the outputs for the image and its flips along all combinations of its spatial
    dimensions, four in two dimensions and eight in three.

    Args:
        inferer: passes each flip through the network. Defaults to :py:class:`PlainInferer`.
    """

    def __init__(self, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.inferer = inferer or PlainInferer()

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: returns one tensor of the spatial shape of its input.

        Returns:
            The mean of the outputs, each flipped back: logits, if the network returns logits.
        """
        plain = convert_to_tensor(inputs, track_meta=False)
        spatial = range(2, plain.ndim)
        total: Any = 0
        subsets = list(chain.from_iterable(combinations(spatial, count) for count in range(len(spatial) + 1)))
        for dims in subsets:
            total = total + self.inferer(plain.flip(dims), network, *args, **kwargs).flip(dims)
        return total / len(subsets)


class AutocastInferer(Inferer):
    """
    Compute the network in reduced precision, and return its outputs in float32.

    Args:
        dtype: precision of convolutions and matrix products, a name of torch's. Defaults to ``"bfloat16"``.
        inferer: passes the image through the network. Defaults to :py:class:`PlainInferer`.
    """

    def __init__(self, dtype: str = "bfloat16", inferer: Inferer | None = None) -> None:
        super().__init__()
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.inferer = inferer or PlainInferer()

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: returns a tensor or, in training with deep supervision, a list of them.

        Returns:
            The same in float32.
        """
        with torch.autocast(inputs.device.type, self.dtype):
            outputs = self.inferer(inputs, network, *args, **kwargs)
        return [out.float() for out in outputs] if isinstance(outputs, list | tuple) else outputs.float()


class OpenVINOInferer(Inferer):
    """
    Run an OpenVINO file on the CPU in place of the network.

    Compiles the model once for each input shape, in half a second to one second; a model with free shapes takes two to
    four times as long for an image.

    Args:
        path: the ``.xml`` file that ``scripts/export.py`` wrote.
        precision: ``"f32"`` or ``"bf16"``. Defaults to ``"f32"``.
    """

    def __init__(self, path: str, precision: str = "f32") -> None:
        super().__init__()
        import openvino

        self.path = path
        self.precision = precision
        self.core = openvino.Core()
        self.compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, inputs: torch.Tensor, network: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: not used.

        Returns:
            Raw logits, on the CPU.
        """
        shape = tuple(inputs.shape)
        if shape not in self.compiled:
            model = self.core.read_model(self.path)
            model.reshape(shape)
            options = {"INFERENCE_PRECISION_HINT": self.precision}
            self.compiled[shape] = self.core.compile_model(model, "CPU", options)
        return torch.as_tensor(self.compiled[shape](inputs.cpu().numpy())[0])
