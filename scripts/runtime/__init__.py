# SPDX-License-Identifier: Apache-2.0
"""
Parts of segment.py. They import neither torch nor MONAI nor SciPy.

What they compute is what inference.json computes; tests/scripts/test_segment.py compares the masks.
"""
