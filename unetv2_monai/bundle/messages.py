# SPDX-License-Identifier: Apache-2.0
"""
From what the library says to what a user of the configs types.

Networks, data, losses and handlers know neither a command line nor recipes: their messages name arguments. Here the
arguments become options, and some messages get the file that helps.
"""

import re
from collections.abc import Collection

__all__ = ["as_options"]

# what a message says -> what to add to it
HINTS = {
    r"holds 1 channel, but the network takes 3\.": "If it is a volume, add recipes/volumes.yaml.",
    r"RandLesionFreed is for images": "Leave out options/lesion_free.yaml.",
    r"RandLesionFreed takes images of type uint8": "Add recipes/recommended.yaml before options/lesion_free.yaml.",
    r"MultiScaleBatch is for images": "Leave out options/multi_scale.yaml.",
    r"StructureLoss is for images": "Leave out options/loss_structure.yaml.",
    r"overlays are drawn on images": "Leave out options/inference_overlays.yaml.",
    r"crop and cover must be shares": "They are lesion_free_crops and lesion_free_covers.",
    r"could not be downloaded|no pretrained weights at": "pretrained auto takes the bundle's own.",
    r"for volumes, the network is for images": "Add recipes/volumes.yaml.",
    r"for images, the network is for volumes": "Leave out recipes/volumes.yaml.",
    r"holds weights of another network": "Set backbone, out_channels and --network_def#channels as in training.",
    r"processor has no bfloat16": "Leave out options/bf16_cpu.yaml or options/inference_bf16.yaml.",
}


def as_options(message: str, options: Collection[str]) -> str:
    """Write the names of options in a message as on the command line, and append the hints that help."""
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, message)]
    text = " ".join([message, *hints])
    # not within a path, a longer name or an option, and only names that are no words of English
    names = "|".join(sorted((re.escape(name) for name in options if "_" in name), key=len, reverse=True))
    return re.sub(rf"(?<![\w/.#-])({names})(?![\w/=]|\.\w)", r"--\1", text) if names else text
