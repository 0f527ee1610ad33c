# SPDX-License-Identifier: Apache-2.0
"""Convert images for the page, also those with more than 8 bits."""

import numpy as np
from PIL import Image, ImageOps

from unetv2_monai import to_rgb
from unetv2_monai.core.files import encoded

FLAT = 64  # of 256 grey values: an image that uses fewer is hardly visible


def png(image: Image.Image, compress_level: int = 1) -> bytes:
    return encoded(image, "PNG", compress_level=compress_level)


def displayed(image: Image.Image) -> tuple[Image.Image, str]:
    """
    Return an image in RGB as the network gets it, and no text. If little can be seen (12 bits in 16, values 0 to 1),
    stretch the values from the lowest to the highest, and return an ASCII sentence that says so.
    """
    seen = to_rgb(image)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return seen, ""
    values = np.asarray(ImageOps.exif_transpose(image)).astype(np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return seen, ""
    darkest, brightest = np.asarray(seen).min(), np.asarray(seen).max()
    cut = low < 0 or high > (255 if image.mode == "F" else 65535)
    if int(brightest) - int(darkest) >= FLAT and not cut:
        return seen, ""
    shown = (values - low) / (high - low)
    note = f"Grey values {low:g} to {high:g} are stretched for the page. The network gets them as {darkest} to "
    note += f"{brightest} of 255: convert your images (docs/how-to/label.md)."
    return Image.fromarray((255 * shown).round().astype(np.uint8)).convert("RGB"), note
