# SPDX-License-Identifier: Apache-2.0
"""Predictions for the page: computed when they are asked for, and kept until the weights change."""

from __future__ import annotations

import logging
import os
import threading
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from fastapi import HTTPException
from PIL import Image

from unetv2_monai.metrics import mask_dice

__all__ = ["TAG", "Predictions", "changed", "dice", "png"]

logger = logging.getLogger(__name__)
TAG = "original"  # MONAI Label's name for labels by the network
PATIENCE = 20  # seconds


class Predictions:
    """
    Args:
        app: the app of MONAI Label.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lock = threading.Lock()

    @staticmethod
    def kept(store: Any, image: str, weights: str) -> bool:
        """Whether there is a prediction by these weights of the image as it is now."""
        info = store.get_label_info(image, TAG)
        return info.get("weights") == weights and info.get("image") == changed(store.get_image_uri(image))

    def get(self, image: str) -> bytes:
        """The prediction as PNG of class indices. Raises HTTPException (503) when others keep the server busy."""
        if not self.lock.acquire(timeout=PATIENCE):
            raise HTTPException(503, "The server is busy. Try again in a moment.")
        try:
            store, weights = self.app.datastore(), self.app.weights()
            if self.kept(store, image, weights):
                return Path(store.get_label_uri(image, TAG)).read_bytes()
            path = store.get_image_uri(image)
            info = {"weights": weights, "image": changed(path)}
            found = png(Image.fromarray(self.app.segmented(path)))
            store.save_version(image, found, ".png", TAG, info)
            return found
        finally:
            self.lock.release()

    def warm_up(self) -> None:
        """Load the network with the first prediction, before anybody waits for it."""
        images = sorted(self.app.datastore().list_images())
        if images and not self.app.volumes:
            try:
                self.app.segmented(self.app.datastore().get_image_uri(images[0]))
            except Exception:
                logger.exception("the first prediction failed")


def changed(path: str) -> str:
    """Changes with a file. Empty where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_mtime_ns}-{found.st_size}"


def png(image: Image.Image, compress_level: int = 1) -> bytes:
    written = BytesIO()
    image.save(written, "PNG", compress_level=compress_level)
    return written.getvalue()


def dice(prediction: np.ndarray, label: np.ndarray, classes: int) -> float:
    """Mean over the classes without background; 1 for a class that neither holds."""
    return fmean(mask_dice(prediction == value, label == value) for value in range(1, classes + 1))
