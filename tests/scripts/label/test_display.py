# SPDX-License-Identifier: Apache-2.0
"""What the page shows of images with more than 8 bits; values by hand."""

import numpy as np
import pytest
from PIL import Image

from .support import app_module

pytest.importorskip("monailabel")


@pytest.fixture
def displayed(monkeypatch):
    return app_module("page_calls", monkeypatch).displayed


@pytest.mark.parametrize(
    ("values", "shown", "window"),
    [
        (np.uint16([[0, 1365, 2730, 4095]]), [0, 85, 170, 255], "20.475 to 4074.52"),  # of 12 bits
        (np.float32([[0, 0.2, 0.6, 1]]), [0, 51, 153, 255], "0.003 to 0.994"),
        (np.uint16([[0, 257, 257 * 100, 65535]]), [0, 1, 100, 255], None),
        (np.uint8([[0, 3, 7, 15]]), [0, 3, 7, 15], None),  # a dark image of 8 bits is dark
        (np.float32([[0, 3, 90, 255]]), [0, 3, 90, 255], None),
    ],
)
def test_a_window_is_named(displayed, values, shown, window):
    image, note = displayed(Image.fromarray(values))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[0, :, 0] - np.array(shown)).max() <= 1
    assert note.isascii()
    assert f"Grey values {window} are shown from black to white" in note if window else note == ""
