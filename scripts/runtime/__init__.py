# SPDX-License-Identifier: Apache-2.0
"""Parts of segment.py. They import neither torch nor MONAI nor SciPy. They compute the same masks as inference.json;
tests/scripts/test_segment.py compares the two.
"""
