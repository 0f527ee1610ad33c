# SPDX-License-Identifier: Apache-2.0
"""An exported network in OpenVINO: what it says about itself, and several images at a time through it, in order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from unetv2_monai.core.description import KEY, Description

from .files import BrokenFile, InputError
from .images import Frame, preprocess

__all__ = ["Network", "Segmented"]


@dataclass(frozen=True)
class Segmented:
    """
    Args:
        frame: what was segmented.
        logits: (channels, height, width) at the network's size.
        milliseconds: that the network took for it.
    """

    frame: Frame
    logits: np.ndarray
    milliseconds: float


class Network:
    """
    Args:
        path: an ``.xml`` or ``.onnx`` file that scripts/export.py wrote.
        precision: ``"f32"`` or ``"bf16"``, which is float32 on a processor without it (a line on stderr says so).
            Defaults to ``"f32"``.
        several: whether there are many images, which then go through the network side by side. Defaults to True.

    Raises:
        InputError: when the file is none of those, or does not take RGB images.
    """

    def __init__(self, path: Path, precision: str = "f32", several: bool = True) -> None:
        if not path.is_file():
            raise InputError(f"no exported network at {path}. Name a file that scripts/export.py wrote.")
        ending = path.suffix.lower()
        if ending not in (".xml", ".onnx"):
            hint = " These are PyTorch weights: export them by scripts/export.py." if ending == ".pt" else ""
            raise InputError(f"{path} is no exported network (.xml, .onnx).{hint}")
        if ending == ".xml" and not path.with_suffix(".bin").is_file():
            raise InputError(f"{path}: its weights, {path.with_suffix('.bin').name}, are missing beside it.")
        core = openvino.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read as ONNX or OpenVINO (.onnx, .xml).") from error
        self.description = self._describe(path, model)
        model.reshape((1, self.description.in_channels, *self.description.image_size))
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            print("--precision bf16: this processor has no bfloat16, so it is float32.", file=sys.stderr)
        hint = "THROUGHPUT" if several else "LATENCY"
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint})
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if several else 1
        # AsyncInferQueue hands results to a callback in any order; frames have one. One more than run at a time:
        # its input is prepared meanwhile
        self.running_at_most = count
        self.requests = deque(compiled.create_infer_request() for _ in range(count + 1))

    @staticmethod
    def _describe(path: Path, model: Any) -> Description:
        place = ["framework", KEY]
        if not model.has_rt_info(place):
            raise InputError(f"{path} does not say how images are prepared for it. Write it anew by scripts/export.py.")
        try:
            description = Description.from_json(model.get_rt_info(place).astype(str))
        except ValueError as error:
            raise InputError(f"{path}: its description cannot be read ({error}). Write it anew.") from error
        if description.in_channels != 3:
            raise InputError(f"{path} takes {description.in_channels} channels, but images are RGB.")
        return description

    def run(self, frames: Iterable[Frame]) -> Iterator[Segmented]:
        """
        Args:
            frames: what to segment.

        Returns:
            One for each frame, in order. A BrokenFile of ``frames`` is raised after the frames before it.
        """
        running: deque[tuple[Frame, Any]] = deque()
        failure: BrokenFile | None = None
        source = iter(frames)
        try:
            while failure is None:
                try:
                    frame = next(source)
                except StopIteration:
                    break
                except BrokenFile as error:
                    failure = error
                    break
                request = self.requests[0]  # taken when it starts: this may be closed at a yield
                preprocess(frame.image, self.description, request.get_input_tensor(0).data)
                if len(running) == self.running_at_most:
                    yield self._finish(*running.popleft())
                self.requests.popleft().start_async()
                running.append((frame, request))
            while running:
                yield self._finish(*running.popleft())
        finally:
            for _, request in running:  # closed early: the next frames take them
                request.wait()
                self.requests.append(request)
        if failure is not None:
            raise failure

    def _finish(self, frame: Frame, request: Any) -> Segmented:
        request.wait()
        done = Segmented(frame, request.get_output_tensor(0).data[0].copy(), request.latency)
        self.requests.append(request)
        return done
