# SPDX-License-Identifier: Apache-2.0
"""Run an exported network on frames in OpenVINO, and read its description."""

import dataclasses
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from unetv2_monai.core.description import KEY, Description, refuse_other_bin
from unetv2_monai.core.errors import InputError
from unetv2_monai.core.files import existing_file
from unetv2_monai.core.frames import Frame
from unetv2_monai.core.images import resize


@dataclass(frozen=True)
class Output:
    """A frame, probabilities (height, width, channels) of its view at the network's size, and the network's time."""

    frame: Frame
    probability: np.ndarray
    milliseconds: float

    @property
    def highest(self) -> float:
        """Return the largest probability of a class other than background."""
        return float(self.probability[..., min(1, self.probability.shape[2] - 1) :].max())


class Network:
    """An exported network, ready to run.

    ``precision``: "f32" or "bf16". On a processor without bfloat16, "bf16" computes in float32 and prints a line on
    stderr. ``several``: images are computed in parallel. ``certainty`` replaces the one in the file. Raises InputError
    when the file is not from scripts/export.py, or does not take RGB images.
    """

    def __init__(self, path: Path, precision: str = "f32", several: bool = True, certainty: float | None = None):
        core = openvino.Core()
        model = _read(core, path)
        self.description = _describe(path, model)
        if certainty is not None:
            self.description = dataclasses.replace(self.description, certainty=certainty)
        model.reshape((1, self.description.in_channels, *self.description.image_size))
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            print("--precision bf16: this processor has no bfloat16, so it is float32.", file=sys.stderr)
        hint = "THROUGHPUT" if several else "LATENCY"
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint})
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if several else 1
        self.running = threading.Semaphore(count)
        self.threads = count + 1  # one prepares an image while the others wait for the network
        self.requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.threads):
            request = compiled.create_infer_request()
            # not in the threads: two threads that ask for `data` for the first time may wait for each other forever
            self.requests.put((request, request.get_input_tensor(0).data[0]))

    def infer(self, frame: Frame) -> Output:
        """Preprocess a frame and compute its probabilities. At most ``threads`` threads may call this at once."""
        request, image = self.requests.get()
        try:
            _prepare(frame.image[frame.view], self.description, out=image)
            with self.running:
                request.start_async()
                request.wait()
            return Output(frame, _probabilities(request.get_output_tensor(0).data[0]), request.latency)
        finally:
            self.requests.put((request, image))


def _prepare(image: np.ndarray, description: Description, out: np.ndarray) -> None:
    """Resize and normalise an image (height, width, 3) of 0 to 255 into the network's input (3, height, width)."""
    resized = resize(image, description.image_size)
    mean, std = (np.array(values, dtype=np.float32) for values in (description.mean, description.std))
    for channel, plane in enumerate(out):
        np.subtract(resized[..., channel], mean[channel], out=plane)
        plane /= std[channel]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities of logits (channels, height, width): by a sigmoid for one channel, else by a softmax."""
    values = logits.transpose(1, 2, 0)
    if values.shape[2] == 1:
        return 1 / (1 + np.exp(-np.clip(values, -80, 80)))
    exponential = np.exp(values - values.max(2, keepdims=True))
    return exponential / exponential.sum(2, keepdims=True)


def _read(core: openvino.Core, path: Path) -> Any:
    existing_file(str(path))
    if path.suffix.lower() not in (".xml", ".onnx"):
        hint = " These are PyTorch weights: export them by scripts/export.py." if path.suffix.lower() == ".pt" else ""
        raise InputError(f"{path} is no exported network (.xml, .onnx).{hint}")
    weights = path.with_suffix(".bin")
    if path.suffix.lower() == ".xml" and not weights.is_file():
        raise InputError(f"{path}: its weights, {weights.name}, are missing beside it.")
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as ONNX or OpenVINO (.onnx, .xml).") from error
    refuse_other_bin(model, path)
    return model


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
