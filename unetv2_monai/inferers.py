# SPDX-License-Identifier: Apache-2.0
"""Ways to pass images through a network, as MONAI inferers that can be nested."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.data import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep

from .bfloat16 import has_bfloat16
from .core.errors import InputError

__all__ = ["AutocastInferer", "FlipInferer", "FunctionNetwork", "OpenVINOInferer", "PlainInferer", "SlabInferer"]

logger = logging.getLogger(__name__)


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
    Test-time augmentation: the mean of the outputs for the image and its flips.

    Windows are flipped one by one, so that memory does not grow with the number of flips and
    :py:class:`SlabInferer`, which returns classes, averages logits too. With any other inferer the image is flipped as
    a whole.

    Args:
        inferer: passes images through the network. Defaults to :py:class:`PlainInferer`.
        axes: spatial dimensions, from 0, along which the image is flipped, alone and in all combinations: of two axes
            four images, of three eight. Defaults to None: all.
    """

    def __init__(self, inferer: Inferer | None = None, axes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.inferer = inferer or PlainInferer()
        self.axes = axes

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: returns one tensor of the spatial shape of its input.

        Returns:
            What the inferer makes of the mean of the outputs, each flipped back: logits, if the network returns logits.

        Raises:
            InputError: when the images do not have one of the axes.
        """
        spatial = list(range(inputs.ndim - 2))
        axes = spatial if self.axes is None else list(self.axes)
        if not set(axes) <= set(spatial):
            raise InputError(f"flip_axes {axes}: images of {len(spatial)} dimensions have the axes {spatial}.")
        dims = [2 + axis for axis in axes]
        subsets = list(chain.from_iterable(combinations(dims, count) for count in range(len(dims) + 1)))

        def mean(image: torch.Tensor, passed: Callable[[torch.Tensor], Any]) -> Any:
            total = passed(image)
            for subset in subsets[1:]:
                total = total + passed(image.flip(subset)).flip(subset)
            return total / len(subsets)

        inner = self.inferer.inferer if isinstance(self.inferer, AutocastInferer) else self.inferer
        if isinstance(inner, SlidingWindowInferer):
            return self.inferer(
                inputs, lambda windows, *a, **k: mean(windows, lambda x: _full(network(x, *a, **k))), *args, **kwargs
            )
        plain = convert_to_tensor(inputs, track_meta=False)
        return mean(plain, lambda x: self.inferer(x, network, *args, **kwargs))


class SlabInferer(SlidingWindowInferer):
    """
    Sliding windows that return classes, so that memory does not grow with the number of classes.

    ``SlidingWindowInferer`` keeps the logits of all classes for the whole volume. Here the windows are passed slab by
    slab along the first dimension, and logits become classes as soon as no further window reaches them. The classes are
    those of ``SlidingWindowInferer`` with the same arguments.

    Args:
        roi_size: of a window, a number above 0 for each spatial dimension.
        kwargs: of :py:class:`monai.inferers.SlidingWindowInferer`: ``sw_batch_size``, ``overlap``, ``mode``,
            ``sigma_scale``, ``progress``.
    """

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: returns one tensor of logits of the spatial shape of its input.

        Returns:
            On the CPU, of type uint8 and shape (Batch, 1, ...): the class of the highest logit; or of one channel of
            logits, 1 where the probability is at least 0.5.
        """
        plain = convert_to_tensor(inputs, track_meta=False)
        native = plain.shape[2:]
        window: tuple[int, ...] = ensure_tuple_rep(self.roi_size, len(native))
        missing = [max(size - n, 0) for size, n in zip(window, native)]
        sides = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
        plain = torch.nn.functional.pad(plain, sides)  # as SlidingWindowInferer would
        weights = self._weights(plain.shape[2:], window).to(plain)
        starts = sorted({place[0].start for place in self._places(plain.shape[2:], window)})
        classes = torch.zeros((len(plain), 1, *plain.shape[2:]), dtype=torch.uint8)
        earlier: torch.Tensor | None = None  # weighted logits of the slabs before, from where this slab starts
        for start, following in zip(starts, [*starts[1:], plain.shape[2]]):
            slab = plain[:, :, start : start + window[0]]
            logits: Any = super().__call__(slab, network, *args, **kwargs)
            logits *= weights
            if earlier is not None:
                logits[:, :, : earlier.shape[2]] += earlier
            done = logits[:, :, : following - start]
            found = done.argmax(1, keepdim=True) if done.shape[1] > 1 else done >= 0
            classes[:, :, start:following] = found.to(classes)
            earlier = logits[:, :, following - start :].clone()
        kept: Any = (..., *(slice(gap // 2, gap // 2 + n) for gap, n in zip(missing, native)))
        return convert_to_dst_type(classes[kept], inputs, dtype=classes.dtype, device=classes.device)[0]

    def _places(self, size: Sequence[int], window: Sequence[int]) -> list[tuple[slice, ...]]:
        """Where windows are, as in ``SlidingWindowInferer``."""
        overlap = ensure_tuple_rep(self.overlap, len(size))
        steps = [one if one == n else max(int(one * (1 - share)), 1) for one, n, share in zip(window, size, overlap)]
        return dense_patch_slices(size, window, steps)

    def _weights(self, size: Sequence[int], window: tuple[int, ...]) -> torch.Tensor:
        """Of a slab: the sum of the weights of its windows, by which ``SlidingWindowInferer`` divided."""
        slab = (window[0], *size[1:])
        total = torch.zeros(slab)
        one = compute_importance_map(window, mode=self.mode, sigma_scale=self.sigma_scale)
        for place in self._places(slab, window):
            total[place] += one
        return total


class AutocastInferer(Inferer):
    """
    Compute the network in reduced precision, and return its outputs in float32. A warning is logged once where the
    processor is slower for it.

    Args:
        dtype: precision of convolutions and matrix products, a name of torch's. Defaults to ``"bfloat16"``.
        inferer: passes the image through the network. Defaults to :py:class:`PlainInferer`.
    """

    def __init__(self, dtype: str = "bfloat16", inferer: Inferer | None = None) -> None:
        super().__init__()
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.warned = False
        self.inferer = inferer or PlainInferer()

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: images of shape (Batch, channels, ...).
            network: returns a tensor or, in training with deep supervision, a list of them.

        Returns:
            The same in float32; whole numbers, such as classes, as they are.
        """
        if not self.warned and inputs.device.type == "cpu" and self.dtype == torch.bfloat16 and not has_bfloat16():
            logger.warning("This processor has no bfloat16, and takes many times as long in it. Leave the overlay out.")
            self.warned = True
        with torch.autocast(inputs.device.type, self.dtype):
            outputs = self.inferer(inputs, network, *args, **kwargs)
        return [_full(out) for out in outputs] if isinstance(outputs, list | tuple) else _full(outputs)


def _full(output: torch.Tensor) -> torch.Tensor:
    return output.float() if output.is_floating_point() else output


class FunctionNetwork(torch.nn.Module):
    """
    A function in place of a network, such as a runtime's: MONAI's evaluator asks for a module, which every inferer can
    call, for each of its windows too.

    Args:
        function: called with images of shape (Batch, channels, ...), returns logits.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.function(inputs)


class OpenVINOInferer(Inferer):
    """
    Run an OpenVINO file on the CPU in place of the network.

    Compiles the model once for each input shape, in half a second to one second; a model with free shapes takes two to
    four times as long for an image.

    Args:
        path: the ``.xml`` file that ``scripts/export.py`` wrote.
        precision: ``"f32"`` or ``"bf16"``, which is float32 on a processor without it (a warning says so). Defaults to
            ``"f32"``.
    """

    def __init__(self, path: str, precision: str = "f32") -> None:
        super().__init__()
        import openvino

        self.path = path
        self.precision = precision
        self.core = openvino.Core()
        if precision == "bf16" and "BF16" not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            logger.warning("--precision bf16: this processor has no bfloat16, so it is float32.")
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
