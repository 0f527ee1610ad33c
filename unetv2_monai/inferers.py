# SPDX-License-Identifier: Apache-2.0
"""MONAI inferers that can be nested, and modules that run another runtime in place of a network."""

import logging
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.data import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from torch import nn
from torch.nn import functional as F

from .core.description import refuse_other_bin
from .core.errors import InputError

logger = logging.getLogger(__name__)


class PlainInferer(Inferer):
    """Pass plain tensors to the network.

    ``SimpleInferer`` passes MONAI's ``MetaTensor``, which runs Python code for every operation of the network. That
    slows a small network on a CPU (docs/results/performance.md).
    """

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        return network(convert_to_tensor(inputs, track_meta=False), *args, **kwargs)


class FlipInferer(Inferer):
    """Average the outputs for an image and its flips (test-time augmentation).

    It flips what the inner inferer passes to the network: the image, or each of its windows. So memory does not grow
    with the number of flips. With :py:class:`SlabInferer`, which returns classes, logits are averaged.

    Args:
        inferer: passes images through the network. Defaults to :py:class:`PlainInferer`.
        axes: spatial dimensions to flip, counted from 0, alone and in all combinations. Two axes give four images;
            three axes give eight. Defaults to None: all.

    Raises:
        InputError: when called with images that do not have one of the axes.
    """

    def __init__(self, inferer: Inferer | None = None, axes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.inferer = inferer or PlainInferer()
        self.axes = axes

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Pass images of shape (Batch, channels, ...) and their flips through a network that returns one tensor."""
        spatial = list(range(inputs.ndim - 2))
        axes = spatial if self.axes is None else list(self.axes)
        if not set(axes) <= set(spatial):
            raise InputError(
                f"cannot flip along axes {axes}: images of {len(spatial)} dimensions have the axes {spatial}."
            )
        dims = [2 + axis for axis in axes]
        flips = list(chain.from_iterable(combinations(dims, count) for count in range(1, len(dims) + 1)))

        def mean(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            total = network(x, *args, **kwargs).float()
            for flip in flips:
                total = total + network(x.flip(flip), *args, **kwargs).float().flip(flip)
            return total / (1 + len(flips))

        return self.inferer(inputs, mean, *args, **kwargs)


class SlabInferer(SlidingWindowInferer):
    """Segment by sliding windows and return classes, without the logits of the whole volume in memory.

    ``SlidingWindowInferer`` keeps the logits of all classes for the whole volume. Here the windows are passed slab by
    slab along the first dimension, and logits become classes as soon as no further window reaches them. The classes are
    those of ``SlidingWindowInferer`` with the same arguments.

    ``roi_size`` is the size of a window, a number above 0 for each spatial dimension; the other arguments are
    ``sw_batch_size``, ``overlap``, ``mode``, ``sigma_scale`` and ``progress`` of ``SlidingWindowInferer``.

    Returns:
        When called, the class of the highest logit, or for one channel of logits 1 where the probability is at least
        0.5. The classes are on the CPU, of type uint8 and shape (Batch, 1, ...).
    """

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Pass images of shape (Batch, channels, ...) through a network that returns one tensor of logits."""
        if isinstance(network, Ensemble):
            raise InputError("options/inference_slabs.yaml takes one network: leave it out, or the ensemble.")
        plain = convert_to_tensor(inputs, track_meta=False)
        native = plain.shape[2:]
        window: tuple[int, ...] = ensure_tuple_rep(self.roi_size, len(native))
        missing = [max(size - n, 0) for size, n in zip(window, native)]
        sides = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
        plain = F.pad(plain, sides)  # as SlidingWindowInferer would
        weights = self._weights(plain.shape[2:], window).to(plain)
        starts = sorted({place[0].start for place in self._places(plain.shape[2:], window)})
        classes = torch.zeros((len(plain), 1, *plain.shape[2:]), dtype=torch.uint8)
        earlier: torch.Tensor | None = None  # weighted logits of earlier slabs, from the start of this slab on
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
        """Return the slices of all windows, as ``SlidingWindowInferer`` places them."""
        overlap = ensure_tuple_rep(self.overlap, len(size))
        steps = [one if one == n else max(int(one * (1 - share)), 1) for one, n, share in zip(window, size, overlap)]
        return dense_patch_slices(size, window, steps)

    def _weights(self, size: Sequence[int], window: tuple[int, ...]) -> torch.Tensor:
        """Sum the weights of all windows of a slab. ``SlidingWindowInferer`` divides the logits by this sum."""
        slab = (window[0], *size[1:])
        total = torch.zeros(slab)
        one = compute_importance_map(window, mode=self.mode, sigma_scale=self.sigma_scale)
        for place in self._places(slab, window):
            total[place] += one
        return total


class FunctionNetwork(nn.Module):
    """Wrap a function from images to logits, such as a runtime, in a module, which MONAI's evaluator requires."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.function(inputs)


class Ensemble(nn.Module):
    """Return the logits of several networks, one network's channels after another's."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([member(inputs) for member in self.members], dim=1)


class OpenVINONetwork(nn.Module):
    """Run an OpenVINO file on the CPU in place of a network, and return raw logits on the CPU.

    The model is compiled once for each input shape, which takes half a second to one second. A model with dynamic
    shapes takes two to four times as long for an image.

    ``path`` is the ``.xml`` file, with its weights beside it. ``precision`` is ``"f32"`` or ``"bf16"``, which a CPU
    without bfloat16 computes in float32, as a warning says.
    """

    def __init__(self, path: str, precision: str = "f32") -> None:
        super().__init__()
        import openvino

        self.path = path
        self.options = {"INFERENCE_PRECISION_HINT": precision}
        self.core = openvino.Core()
        if precision == "bf16" and "BF16" not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            logger.warning("precision bf16: this processor has no bfloat16, so it is float32.")
        self.compiled: dict[tuple[int, ...], Any] = {}

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        shape = tuple(inputs.shape)
        if shape not in self.compiled:
            model = self.core.read_model(self.path)
            refuse_other_bin(model, self.path)
            model.reshape(shape)
            self.compiled[shape] = self.core.compile_model(model, "CPU", self.options)
        return torch.as_tensor(self.compiled[shape](inputs.cpu().numpy())[0])
