# SPDX-License-Identifier: Apache-2.0
"""Decode image and mask files, and compare them, before they are used."""

from __future__ import annotations

__all__ = ["IMAGE_ENDINGS", "MAX_LISTED", "MAX_VOXELS", "VOLUME_ENDINGS"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii", ".nii.gz")
MAX_VOXELS = 2**29  # of a volume; images have Pillow's own limit, 179 million pixels
MAX_LISTED = 200  # problems in one message
