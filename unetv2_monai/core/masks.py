# SPDX-License-Identifier: Apache-2.0
"""Masks: from the values that a file holds to class indices.

Every value is judged as it is in the file, before any conversion, and what is none of the documented forms is refused.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageColor

from .errors import InputError
from .images import upright

REACH = 8  # pixels around an outline in which a lossy or smoothed mask may have any value: a block of JPEG
NOISE = 8 / 255  # share of white by which black and white of a lossy mask may be off elsewhere


def to_mask(
    image: Image.Image,
    out_channels: int = 1,
    colors: Mapping[str, int] | None = None,
    ignore_label: int | None = None,
) -> Image.Image:
    """Convert a mask to class indices.

    Args:
        image: an opened mask of one page, whose EXIF orientation is applied. For one structure: 0 and 1; 0 and 255 (of
            16 bits also 65535), where other values may stand within 8 pixels of the outline and are cut at half; or
            palette entries 0 (black) and 1. For several classes: grey values or palette entries 0, 1, ...,
            ``out_channels - 1``. Floating-point numbers that are integers count as these.
        out_channels: number of output channels of the network. 1 means one structure with a sigmoid. Defaults to 1.
        colors: for masks in colours, the class of each, such as ``{"black": 0, "#ff0000": 1, "224,224,192": 0}``.
            Defaults to None: colours are refused.
        ignore_label: the value of pixels whose class is unknown, up to 255: in masks of several classes, or as the
            class of a colour. Defaults to None: there are none.

    Returns:
        The mask in mode ``"L"`` with values 0 and 1, or 0 to ``out_channels - 1``, and ``ignore_label``.

    Raises:
        InputError: when the mask has other values, colours or transparency; the message states them.
    """
    name, lossy = getattr(image, "filename", "") or "mask", image.format in ("JPEG", "MPO")
    turned = upright(image)
    refuse_as_ignored(ignore_label, out_channels, colors is not None)
    if colors is not None:
        return Image.fromarray(_by_color(turned, colors, max(out_channels, 2), name, ignore_label).astype(np.uint8))
    found = np.asarray(turned) if turned.mode == "P" else _grey(turned, name)
    ignored = np.zeros(found.shape, bool) if ignore_label is None else found == ignore_label
    found = np.where(ignored, found.dtype.type(0), found) if ignored.any() else found
    if turned.mode == "P":
        classes = _by_palette(found, turned.getpalette() or [], out_channels, name)
    elif out_channels == 1:
        classes = _one_structure(found, lossy, name)
    else:
        classes = _several_classes(found, out_channels, lossy, name)
    classes = classes.astype(np.uint8)
    classes[ignored] = ignore_label or 0
    return Image.fromarray(classes)


def refuse_as_ignored(ignore_label: int | None, out_channels: int, by_color: bool) -> None:
    """Raise InputError if the value of unknown pixels may be that of a class."""
    if ignore_label is None:
        return
    if ignore_label in range(max(out_channels, 2)):
        raise InputError(f"ignore_label {ignore_label} is one of the classes 0 to {max(out_channels, 2) - 1}.")
    if out_channels == 1 and not by_color:
        raise InputError(
            f"ignore_label {ignore_label}: grey values of one structure may be the lesion. Name the class of each "
            f"colour by mask_colors, such as {{'black': 0, 'white': 1, 'gray': {ignore_label}}}."
        )


def _grey(image: Image.Image, name: str) -> np.ndarray:
    """Return the integers that a mask in grey holds, of shape (height, width) and in the file's own type."""
    values = np.asarray(image)
    if image.mode not in ("1", "L", "LA", "I", "F", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        raise InputError(f"{name}: a mask in {image.mode}. Save it in grey.")
    if image.mode in ("LA", "RGBA"):
        if (values[..., -1] != 255).any():
            raise InputError(
                f"{name}: a mask with transparency: its colours may not be the classes. Save it opaque, in grey."
            )
        values = values[..., :-1]
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            colors = np.unique(values.reshape(-1, 3), axis=0).tolist()
            found = [tuple(color) for color in colors if len(set(color)) > 1]
            raise InputError(
                f"{name}: a mask in colours, {_listed(found)}. Save the class indices as grey values, or name the "
                "class of each colour by mask_colors."
            )
        values = values[..., 0]
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise InputError(
                f"{name}: mask values {_shown(values)}, which are no integers. Threshold probabilities, or save the "
                "class indices in 8 bits."
            )
        values = values.astype(np.int64)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _one_structure(values: np.ndarray, lossy: bool, name: str) -> np.ndarray:
    """Return 0 and 1 for the values of one structure."""
    found = np.unique(values)
    if set(found.tolist()) <= {0, 1} and not (lossy and found[-1]):  # of a JPEG, 1 may be noise
        return values
    white = 65535 if found[-1] > 255 else 255
    # a few values may be as many classes
    several = 0 <= found[0] <= found[-1] <= white and len(found) > (3 if lossy else 8)
    if set(found.tolist()) <= {0, white} or (several and _smoothed(values, white)):
        return values > white // 2
    jpeg = " JPEG changes values: save it as PNG." if lossy else ""
    raise InputError(
        f"{name}: mask values {_shown(found)}, but a mask of one class holds 0 and 1, or 0 and 255 (and values between "
        f"at the outline alone).{jpeg} Map the values, or for several classes set out_channels to their number, "
        "background included."
    )


def _smoothed(values: np.ndarray, white: int) -> bool:
    """Tell whether values are those of a mask of 0 and white after lossy compression or smoothing.

    Away from its outline such a mask has one dark and one bright value.
    """
    marked = values > white // 2
    window = 2 * REACH + 1
    total = np.pad(np.pad(marked, REACH, mode="edge").astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    count = total[window:, window:] - total[:-window, window:] - total[window:, :-window] + total[:-window, :-window]
    dark, bright = np.unique(values[count == 0]), np.unique(values[count == window**2])
    plain = len(dark) <= 1 and all(dark <= NOISE * white) and len(bright) <= 1 and all(bright >= white - NOISE * white)
    return plain and bool(marked.any())


def _several_classes(values: np.ndarray, out_channels: int, lossy: bool, name: str) -> np.ndarray:
    """Return the values themselves, if they are class indices."""
    if lossy and values.max() > 0:
        raise InputError(f"{name}: JPEG changes class indices. Save masks of several classes as PNG.")
    if values.min() < 0 or values.max() >= out_channels:
        raise InputError(
            f"{name}: mask values {_shown(values)}, but with out_channels {out_channels} only 0 to {out_channels - 1} "
            "are classes. Map the values, or set out_channels to the number of classes, background included."
        )
    return values


def _by_palette(entries: np.ndarray, colors_of: Sequence[int], out_channels: int, name: str) -> np.ndarray:
    """Return the class indices of a mask with a palette: its entries, or black and white of one structure."""
    palette = np.reshape(colors_of, (-1, 3))
    used = np.unique(entries)
    colors, greys = palette[used], palette[used, 0]
    is_grey = (colors == greys[:, None]).all()
    shown = _listed([f"{entry} {tuple(color)}" for entry, color in zip(used.tolist(), colors.tolist())])
    if out_channels == 1:
        if is_grey and set(greys.tolist()) <= {0, 255}:
            return palette[entries, 0] > 0
        if used[-1] <= 1 and not palette[0].any():  # whichever colour the palette has for the class, as VOC's
            return entries
        raise InputError(
            f"{name}: palette entries {shown}, but a mask of one class holds black and white, or the entries 0 (black) "
            "and 1. Save it in grey as 0 and 255, or name the class of each colour by mask_colors."
        )
    if is_grey and greys.max() < out_channels and (greys != used).any():
        raise InputError(
            f"{name}: palette entries {shown}, of which the numbers or the greys may be the classes. Save the class "
            "indices as grey values, without a palette."
        )
    return _several_classes(entries, out_channels, False, name)


def _by_color(
    image: Image.Image, colors: Mapping[str, int], classes: int, name: str, ignore_label: int | None
) -> np.ndarray:
    """Return the class indices by a table of colours."""
    table = color_table(colors, classes, ignore_label)
    found, places = np.unique(np.asarray(image.convert("RGB")) @ np.array([65536, 256, 1]), return_inverse=True)
    if unknown := [(color >> 16, color >> 8 & 255, color & 255) for color in found.tolist() if color not in table]:
        raise InputError(
            f"{name}: the colours {_listed(unknown)} are not in mask_colors. Add them, with the class of each, or save "
            "masks without lossy compression."
        )
    return np.array([table[color] for color in found.tolist()])[places].reshape(image.size[::-1])


def color_table(colors: Mapping[str, int], classes: int, ignore_label: int | None = None) -> dict[int, int]:
    """Read a table of classes by colour; its keys become 65536 red + 256 green + blue.

    Raises:
        InputError: when a class is not among 0 to ``classes - 1`` or ``ignore_label``, or a colour is none.
    """
    table: dict[int, int] = {}
    for color, index in colors.items():
        try:
            red, green, blue = map(int, color.split(",")) if "," in color else ImageColor.getrgb(color)[:3]
        except ValueError as error:
            raise InputError(f"mask_colors: {color!r} is no colour such as red, #ff0000 or 255,0,0.") from error
        if index not in range(classes) and index != ignore_label:
            raise InputError(f"mask_colors: {color} is class {index}, but classes are 0 to {classes - 1}.")
        table[65536 * red + 256 * green + blue] = index
    return table


def _shown(values: np.ndarray) -> str:
    return _listed([f"{value:.4g}" if isinstance(value, float) else value for value in np.unique(values).tolist()])


def _listed(found: Sequence[object]) -> str:
    return ", ".join(map(str, found[:8])) + (f", ... ({len(found)} different)" if len(found) > 8 else "")
