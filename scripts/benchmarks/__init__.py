# SPDX-License-Identifier: Apache-2.0
"""How ``benchmark.py`` measures."""
