# SPDX-License-Identifier: Apache-2.0
"""Diagrams by matplotlib, which is an extra, without a window and without global state."""

import io
from typing import Any

from unetv2_monai import InputError

__all__ = ["new_figure", "to_png"]


def new_figure(width: float, height: float) -> Any:
    """Make an empty figure; sizes are in inches. Raises InputError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("matplotlib is missing: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Any) -> bytes:
    """Return the figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
