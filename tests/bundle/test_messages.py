# SPDX-License-Identifier: Apache-2.0
"""Names of arguments become options in what is printed; nothing else changes."""

import pytest
import torch
from monai.transforms import SaveImage

from unetv2_monai.bundle.messages import as_options, message_of

from ..support.workflow import cases

OPTIONS = ["image_size", "in_channels", "dataset_dir", "seed", "device"]


@pytest.mark.parametrize(("message", "printed"), cases("messages", "printed"))
def test_messages(message, printed):
    assert as_options(message, OPTIONS) == printed
    assert as_options(message, []).startswith(message)  # without options nothing is replaced


def test_errors_of_libraries(tmp_path):
    """What MONAI and PyTorch raise for a name of 256 bytes and for a batch of one value; other errors keep theirs."""
    save = SaveImage(tmp_path, "", ".png", writer="PILWriter", separate_folder=False, print_log=False)
    calls = {
        "_a.png cannot be written (File name too long": lambda: save(torch.zeros(1, 4, 4), {"filename_or_obj": name}),
        "single value per channel at the coarsest": lambda: torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1)),
        None: lambda: torch.zeros(2) + torch.zeros(3),
    }
    name = "a" * 250 + "_a.png"
    for text, call in calls.items():
        with pytest.raises((RuntimeError, ValueError)) as info:
            call()
        message = message_of(info.value, [])
        assert message is None if text is None else text in message
