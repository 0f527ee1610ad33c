# SPDX-License-Identifier: Apache-2.0
"""Convert the weights of the authors' released U-Net v2."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from .core.errors import InputError

UNUSED = "deconv5.weight"  # a layer of the released network that its forward pass never uses

RELEASED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


def released_key(key: str) -> str | None:
    """Return our name for an entry of the released network's state dict; None if we have no such layer."""
    for pattern, (ours, *numbers) in RELEASED.items():
        if match := re.fullmatch(rf"{pattern}\.(.+)", key):
            return f"{ours.format(numbers[int(match[1])])}.{match[2].replace('dwconv.dwconv', 'dwconv')}"
    return None


def convert_released_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of the released U-Net v2 so that ``UNetV2.load_state_dict`` takes them with ``strict=True``.

    The released network is ``unet_v2/UNet_v2.py`` of https://github.com/yaoppeng/U-Net_v2, with any PVTv2 encoder.

    Args:
        state_dict: parameters and buffers under the released names, which may have the prefix ``module.`` of
            data-parallel training.

    Returns:
        The same tensors under our names, without ``deconv5.weight``, which the released forward pass never uses.

    Raises:
        InputError: when an entry is not one of the released network; the message names it.
    """
    entries = {key.removeprefix("module."): value for key, value in state_dict.items()}
    entries.pop(UNUSED, None)
    unknown = [key for key in entries if released_key(key) is None]
    if unknown or not entries:
        found = f"unknown entries {unknown[:3]}, {len(unknown)} in all" if unknown else "it is empty"
        raise InputError(f"this is not a state dict of the released U-Net v2: {found}.")
    return {str(released_key(key)): value for key, value in entries.items()}
