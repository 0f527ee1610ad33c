# SPDX-License-Identifier: Apache-2.0
"""Carry saved masks over to other frames of their sequence: dense optical flow moves the mask, and the network's
probability corrects it. tests/scripts/label/test_sequences.py chose the constants, and measures what this brings.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from fastapi import HTTPException
from monai.utils import optional_import
from monailabel.interfaces.utils.app import app_instance
from options import Frames, ImageId
from PIL import Image

from unetv2_monai import InputError, to_rgb
from unetv2_monai.core.files import grey_png
from unetv2_monai.data.checks import read_mask
from unetv2_monai.metrics import mask_dice

cv2, _ = optional_import("cv2", descriptor="OpenCV carries masks over. Install opencv-python-headless: {}")
SIDE = 384  # lengths are in pixels of frames whose longer side was reduced to this
SCALE, MOST, SLACK = 1, 8, 2  # of the logit of a moved mask: see fused
GREY = 20  # difference of grey values that counts as one pixel of error
LIMIT, NEAR = 0.1, 10  # a sweep stops below this confidence; how far from the mask the flow's error counts for it
Moved = tuple[float, np.ndarray, np.ndarray]  # weight, depths (classes, height, width), error (height, width)


def warped(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return the values at the places to which a flow (height, width, 2) leads from each pixel."""
    y, x = np.indices(flow.shape[:2], np.float32)
    return cv2.remap(values, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def depth(mask: np.ndarray) -> np.ndarray:
    """Return the distance in pixels to the outline of a mask: positive inside, negative outside, at most 200."""
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3) for part in (mask, ~mask))
    return np.clip(inside - outside, -200, 200)


def moved(grey: np.ndarray, mask: np.ndarray, other: np.ndarray, classes: int = 2, weight: float = 1.0) -> Moved:
    """Move a frame's mask to another one of its size by the flow between their grey values: uint8 (height, width)."""
    size, unit = grey.shape[::-1], max(1.0, max(grey.shape) / SIDE)
    if min(size) < 10 * unit:
        raise InputError(f"Frames of {size[0]} x {size[1]} pixels are too narrow for optical flow.")
    before, after = (cv2.resize(each, None, None, 1 / unit, 1 / unit, cv2.INTER_AREA) for each in (grey, other))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = flow.calc(after, before, None), flow.calc(before, after, None)
    difference = cv2.blur(cv2.absdiff(warped(before, there), after), (9, 9))
    error = np.linalg.norm(warped(back, there) + there, axis=2) + difference / np.float32(GREY)
    there = cv2.resize(there, size) * np.float32(unit)
    parts = (warped((mask == value).astype(np.float32), there) > 0.5 for value in range(classes))
    return weight, np.stack([depth(part) / unit for part in parts]), cv2.resize(error, size)


def fused(chances: np.ndarray, sides: Sequence[Moved], scale=SCALE, most=MOST, slack=SLACK) -> tuple[np.ndarray, float]:
    """Add the logits of the network's probabilities (classes, height, width) and of masks moved to this frame. Those of
    the masks grow with the depth, by 1 for each ``scale`` up to ``most``, and lose a factor e for each ``slack`` of
    error. Returns class indices, uint8 (height, width), and the confidence, 0 to 1: the geometric mean of that factor
    in and near the moved mask, and of the Dice of this mask and the result.
    """
    exact = [weight * np.exp(-error / slack) for weight, _, error in sides]
    prior = np.sum([part * np.clip(side[1] / scale, -most, most) for part, side in zip(exact, sides)], axis=0)
    # half for each class: two classes then differ by the whole
    mask = np.argmax(np.log(chances.clip(1e-4, 1 - 1e-4)) + prior / 2, axis=0).astype(np.uint8)
    depths, trust = np.sum([weight * depths for weight, depths, _ in sides], axis=0), np.sum(exact, axis=0)
    carried, near = np.argmax(depths, axis=0), depths[0] < NEAR
    agreement = np.mean([mask_dice(mask == value, carried == value) for value in range(1, len(chances))])
    return mask, float((trust[near] if near.any() else trust).mean() * agreement) ** 0.5


def sequence(images: Iterable[str], image: str) -> list[str]:
    """Return the images whose names differ from this one's in the last number alone, in the order of that number."""
    parts = {name: re.split(r"(\d+)(?=\D*$)", name) for name in images}
    alike = [name for name, each in parts.items() if each[::2] == parts[image][::2] and len(each) == 3]
    return sorted(alike, key=lambda name: (int(parts[name][1]), name))


def carry_over(id: ImageId, frames: Frames = 5) -> dict[str, Any]:
    """Replace the predictions of the next ``frames`` frames by an image's saved mask, carried over; of those before if
    the number is negative. A frame with a saved mask ends the sweep, and its mask is used too. Returns ids and
    confidences, and why there are not as many as asked for, or no text. Raises HTTPException (409).
    """
    store = (app := app_instance()).datastore()
    saved, names = {*store.get_labeled_images()}, sequence(store.list_images(), id)
    if id not in saved or len(names) < 2:
        raise HTTPException(409, f"'{id}' needs a saved mask, and images whose names differ in the last number alone.")
    ahead = names[names.index(id) + 1 :] if frames > 0 else names[: names.index(id)][::-1]
    end = next((distance for distance, name in enumerate(ahead, 1) if name in saved), 0)

    def grey(name: str) -> np.ndarray:
        with Image.open(store.get_image_uri(name)) as opened:
            return np.asarray(to_rgb(opened).convert("L"))

    def label(name: str) -> np.ndarray:
        return read_mask([store.get_label_uri(name, "final")], {"out_channels": app.out_channels})

    keys, carried = [(grey(name), label(name)) for name in (id, *ahead[end - 1 : end])], list[dict[str, Any]]()
    taken = ahead[: min(abs(frames), end - 1 if end else len(ahead))]
    reason = f"{ahead[end - 1]} has a saved mask." if end else "The sequence ends there."
    for distance, name in enumerate(taken, 1):
        version, chances, other = app.prediction_of(name), app.chances(name), grey(name)
        if {other.shape} != {part.shape for key in keys for part in key}:
            raise HTTPException(409, f"'{name}' differs in size from a saved mask or its frame.")
        weights = (1 - distance / end, distance / end) if end else (1.0,)
        mask, confidence = fused(chances, [moved(*key, other, len(chances), part) for key, part in zip(keys, weights)])
        if confidence < LIMIT:
            reason = f"{name} differs too much: the confidence is {confidence:.2f}, and must be {LIMIT} or more."
            break
        carried.append({"id": name, "confidence": confidence})
        store.save_version(name, grey_png(mask), ".png", "original", version | carried[-1])
    return {"carried": carried, "stopped": reason if len(carried) < abs(frames) else ""}
