# SPDX-License-Identifier: Apache-2.0
"""Seeded weights, inputs and outputs of the released U-Net v2 network: the definition of "same network".

Every entry of its state dict was filled with ``weight(key, shape)``; in eval mode it saw ``image(seed, shape)``. The
.npz holds its four outputs, the .json its keys and shapes and, for some cases, loss and gradient norms.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent
RECORD = json.loads((FOLDER / "unetv2_released.json").read_text())
CASES = RECORD["cases"]


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """One state-dict entry, drawn from a seed that is its name's checksum."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    normal = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF).standard_normal(shape).astype(np.float32)
    if key.endswith("running_mean"):
        return np.float32(0.1) * normal
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(normal)
    if key.endswith("bias"):
        return np.float32(0.05) * normal
    if len(shape) == 1:
        return 1 + np.float32(0.1) * normal
    return normal * np.float32(1.5 / np.sqrt(np.prod(shape[1:])))


def image(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def released_state_dict(n_classes: int) -> dict[str, torch.Tensor]:
    """The seeded state dict of the released network."""
    entries = {}
    for key, shape in RECORD["state_dict_shapes"].items():
        if key.startswith("seg_outs."):
            shape = [n_classes, *shape[1:]]
        entries[key] = torch.from_numpy(np.asarray(weight(key, tuple(shape))))
    return entries


def outputs(name: str) -> list[np.ndarray]:
    """The outputs of the released network for a case, finest head first."""
    with np.load(FOLDER / "unetv2_released.npz") as stored:
        return [stored[f"{name}/head{i}"] for i in range(4)]
