# SPDX-License-Identifier: Apache-2.0
"""What the bundle's configs do around training: options, what weights carry, the folder of a run."""
