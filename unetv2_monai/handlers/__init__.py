# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that the bundle's configs attach to MONAI's engines."""
