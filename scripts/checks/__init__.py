# SPDX-License-Identifier: Apache-2.0
"""Parts of ``check_data.py``: what is known of images and of volumes, and what is found in it."""
