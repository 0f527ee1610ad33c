# SPDX-License-Identifier: Apache-2.0
"""What the page shows of images with more than 8 bits; values by hand."""

import numpy as np
import pytest
from PIL import Image

from .support import app_module


@pytest.fixture
def displayed(monkeypatch):
    return app_module("display", monkeypatch).displayed


@pytest.mark.parametrize(
    ("values", "shown", "seen"),
    [
        (np.uint16([[0, 1365, 2730, 4095]]), [0, 85, 170, 255], "0 to 15"),  # of 12 bits
        (np.float32([[0, 0.2, 0.6, 1]]), [0, 51, 153, 255], "0 to 1"),
        (np.float32([[-1000, 0, 1000, 1550]]), [0, 100, 200, 255], "0 to 255"),  # cut below 0 and above 255
        (np.uint16([[0, 257, 257 * 100, 65535]]), [0, 1, 100, 255], None),
        (np.uint16([[900, 900, 900, 900]]), [3, 3, 3, 3], None),
        (np.uint8([[0, 3, 7, 15]]), [0, 3, 7, 15], None),  # a dark image of 8 bits is dark
        (np.float32([[0, 3, 90, 255]]), [0, 3, 90, 255], None),
    ],
)
def test_only_what_can_hardly_be_seen_is_stretched(displayed, values, shown, seen):
    """All else is shown as the network gets it."""
    image, note = displayed(Image.fromarray(values))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == shown
    assert note.isascii()
    assert f"The network gets them as {seen} of 255" in note if seen else note == ""
