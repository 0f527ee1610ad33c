# SPDX-License-Identifier: Apache-2.0
"""These modules check the options of the configs, store options with weights, and prepare the folder of a run."""
