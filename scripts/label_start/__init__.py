# SPDX-License-Identifier: Apache-2.0
"""Parts of ``label_server.py``: the images and the bundle that a server starts with."""
