# SPDX-License-Identifier: Apache-2.0
"""Names of arguments become options in what is printed; nothing else changes."""

import pytest

from unetv2_monai.bundle.messages import as_options

OPTIONS = ["image_size", "in_channels", "dataset_dir", "seed", "device"]


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("in_channels must be positive, got 0.", "--in_channels must be positive, got 0."),
        ("dataset_dir data/image_size does not exist.", "--dataset_dir data/image_size does not exist."),
        ("set --image_size, not in_channels.", "set --image_size, not --in_channels."),
        ("the seed of a device", "the seed of a device"),  # words of English
        ("my_image_size image_size.png image_size_2", "my_image_size image_size.png image_size_2"),
        ("network_def#in_channels 3", "network_def#in_channels 3"),
        ("holds 1 channel, but the network takes 3. Set in_channels 1.",
         "holds 1 channel, but the network takes 3. Set --in_channels 1. If it is a volume, add recipes/volumes.yaml."),
    ],
)  # fmt: skip
def test_messages(message, printed):
    assert as_options(message, OPTIONS) == printed


def test_without_options_nothing_is_replaced():
    assert as_options("in_channels 3", []) == "in_channels 3"
