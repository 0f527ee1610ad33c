# SPDX-License-Identifier: Apache-2.0
"""What the commands in ``scripts/`` share. The commands do not import each other."""
