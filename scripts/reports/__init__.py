# SPDX-License-Identifier: Apache-2.0
"""Parts of ``report.py``: the scored images, where they fail, and what they look like."""
