# SPDX-License-Identifier: Apache-2.0
"""These modules handle errors, files, images, masks and overlays. The configs, segment.py and the label server share
them. They need only NumPy and Pillow, and import neither torch nor MONAI.
"""
