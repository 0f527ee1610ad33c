# SPDX-License-Identifier: Apache-2.0
"""
What needs NumPy and Pillow alone: errors, files, images, masks, overlays. The configs, segment.py and the label server
use the same functions; nothing here imports torch or MONAI.
"""
