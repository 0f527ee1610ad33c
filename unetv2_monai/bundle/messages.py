# SPDX-License-Identifier: Apache-2.0
"""
Translate the library's error messages for users of the configs.

The messages of networks, data, losses and handlers name Python arguments. This module writes these arguments as options
of the command line. It also appends hints to some messages, such as the config file that helps.
"""

import re
from collections.abc import Collection

from ..core.errors import message_behind

# pattern in an error of another library -> our message
FOREIGN = {
    r"SaveImage cannot find a suitable writer for (.+)\.\n[\s\S]*\n\w*Error: (?:\[Errno \d+\] )?(.+)": (
        r"\1 cannot be written (\2). What was written before is whole."
    ),
    r"Expected more than 1 value per channel when training": (
        "a batch of one image has a single value per channel at the coarsest level, which batch normalisation cannot "
        "train on. Raise batch_size or image_size, or train on more images."
    ),
}
# pattern in a message -> hint to append
HINTS = {
    r"holds 1 channel, but the network takes 3\.": "If it is a volume, add recipes/volumes.yaml.",
    r"RandLesionFreed is for images": "Leave out options/lesion_free.yaml.",
    r"RandLesionFreed takes images of type uint8": "Add recipes/recommended.yaml before options/lesion_free.yaml.",
    r"MultiScaleBatch is for images": "Leave out options/multi_scale.yaml.",
    r"StructureLoss is for images": "Leave out options/loss_structure.yaml.",
    r"crop and cover must be shares": "They are lesion_free_crops and lesion_free_covers.",
    r"does not take (images of|backbone_args)": "On the command line they are --network_def#backbone_args.",
    r"\.(mp4|mov|avi|mkv|webm|m4v|mpe?g|wmv): cannot be read": "\nFor videos, run scripts/segment.py.",
    r"could not be downloaded|no pretrained weights at": "pretrained auto takes the bundle's own.",
    r"for volumes, the network is for images": "Add recipes/volumes.yaml.",
    r"for images, the network is for volumes": "Leave out recipes/volumes.yaml.",
    r"holds weights of another network": "Set backbone, out_channels and --network_def#channels as in training.",
}


def as_options(message: str, options: Collection[str]) -> str:
    """Write the option names in a message as on the command line (``--name``), and append the hints that match."""
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, message)]
    text = " ".join([message, *hints])
    # skip names within a path, a longer name or an option, and names without _, which may be English words
    names = "|".join(sorted((re.escape(name) for name in options if "_" in name), key=len, reverse=True))
    return re.sub(rf"(?<![\w/.#-])({names})(?![\w/=]|\.\w)", r"--\1", text) if names else text


def message_of(error: BaseException, options: Collection[str]) -> str | None:
    """Return what is printed instead of an error that the user has to fix; None for other errors."""
    message = message_behind(error)
    cause: BaseException | None = error
    while message is None and cause is not None:
        found = ((re.search(pattern, str(cause)), ours) for pattern, ours in FOREIGN.items())
        message = next((match.expand(ours) for match, ours in found if match), None)
        cause = cause.__cause__
    return None if message is None else as_options(message, options)
