# SPDX-License-Identifier: Apache-2.0
"""Convert images for the page, also those with more than 8 bits."""

from PIL import Image

from unetv2_monai import to_rgb
from unetv2_monai.core.files import encoded


def png(image: Image.Image, compress_level: int = 1) -> bytes:
    return encoded(image, "PNG", compress_level=compress_level)


def displayed(image: Image.Image) -> tuple[Image.Image, str]:
    """Return an image in RGB as the network gets it, and an ASCII sentence about its window, or no text."""
    seen = to_rgb(image)
    if window := seen.info.get("window"):
        return seen, "Grey values {:g} to {:g} are shown from black to white, to the network too.".format(*window)
    return seen, ""
