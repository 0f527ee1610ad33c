# SPDX-License-Identifier: Apache-2.0
"""Prepare the start of a labelling server: check its images, link them to where MONAI Label finds them, and write its
app, which is its code and the bundle with its weights.
"""

import json
import math
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import torch
from common.options import read_set, with_carried
from common.packing import NAME, SHIPPED, copy_bundle, copy_encoder, new_network, save_weights

from unetv2_monai import InputError, list_images
from unetv2_monai.core.files import sha256_of
from unetv2_monai.core.listing import is_volume, list_files
from unetv2_monai.entries import recipe_of

CODE = Path(__file__).resolve().parents[1] / "label_app"
FINE_TUNING_RATE = 0.0005  # learning rate for trained weights: on few labels, 0.001 makes them worse


def prepare_images(arguments: Namespace) -> list[Path]:
    """Decode each image once, and return the absolute paths of all. An image that is a link keeps its own name."""
    frames = arguments.work_dir / "frames"  # of a video or DICOM
    images = list_images(str(frames if frames.is_dir() else arguments.images))
    return [Path(item["image"]).absolute() for item in images]


def studies_of(arguments: Namespace, images: Sequence[Path]) -> Path:
    """Return the folder that MONAI Label reads all images from and writes labels into."""
    if not arguments.in_place:
        return arguments.work_dir / "images"
    folder = images[0].parent.resolve()
    if others := sorted({path.name for path in list_files(folder)} - {path.name for path in images}):
        raise InputError(
            f"{folder} holds masks beside the images ({', '.join(others)}), which --in_place would list as images. "
            "Leave out --in_place, or move the masks to another folder."
        )
    return folder


def refuse_changed(studies: Path, images: Sequence[Path]) -> None:
    """Refuse images that changed after they were labelled. The server keeps a hash of each labelled image."""
    path = studies / "datastore_v2.json"
    try:
        listed = json.loads(path.read_text())["objects"] if path.is_file() else {}
    except (ValueError, KeyError, TypeError):
        made_of = f"the list is made anew from the images and the files in {studies / 'labels'}"
        raise InputError(f"{path} is broken. Move it away and start again: {made_of}.") from None
    by_name = {path.name: path for path in images}
    changed = ""
    for name, entry in sorted(listed.items()):
        label = entry["labels"].get("final", {"ext": "", "info": {}})
        image, kept = by_name.get(name + entry["image"]["ext"]), label["info"].get("image")
        file = studies / "labels" / "final" / (name + label["ext"])
        if image and kept and file.is_file() and sha256_of(image) != kept:
            changed += f"\n  {image.name}, labelled in {file}"
    if changed:
        advice = "Restore them, move their labels away, or name another --work_dir."
        raise InputError(f"These images are not those that were labelled:{changed}\n{advice}")


def refuse_other_kind(images: Sequence[Path], bundle: Path) -> None:
    """Refuse volumes for a 2D network. For a 3D network, refuse images, and volumes with another number of channels."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    taken_image = metadata["network_data_format"]["inputs"]["image"]
    three, channels = len(taken_image["spatial_shape"]) == 3, taken_image["num_channels"]
    if other := next((path for path in images if is_volume(path) != three), None):
        found, taken = ("an image", "volumes (NIfTI)") if three else ("a volume", "images of two dimensions")
        advice = "Leave out --recipe volumes" if three else "Add --recipe volumes"
        raise InputError(f"{other} is {found}, but this network takes {taken}. {advice}, or name other --images.")
    for path in images if three else ():
        volume: Any = nibabel.load(path)
        if (own := math.prod(volume.shape[3:])) != channels:
            advice = f"Name other --images, or a network of your own by --checkpoint and --set in_channels={own}."
            raise InputError(f"{path}: holds {own} channels, but the network takes {channels}. {advice}")


def link_images(studies: Path, images: Sequence[Path]) -> None:
    """Link the images into the folder where MONAI Label reads images and writes labels."""
    studies.mkdir(exist_ok=True)
    for path in images:
        link = studies / path.name
        if link.is_symlink() and link.readlink() != path:  # the folder has moved
            link.unlink()
        if not link.exists():
            link.symlink_to(path)


def prepare_app(arguments: Namespace, images: Sequence[Path]) -> str:
    """Put the bundle, unless it is there, and the app's code into its folder. Returns a sentence about the weights."""
    app = arguments.work_dir / "app"
    bundle = app / "model" / NAME
    if (weights := bundle / "models" / "model.pt").is_file():
        refuse_other_kind(images, bundle)
        start = f"Going on with the weights in {weights}"
    else:
        with TemporaryDirectory(prefix=".unfinished_", dir=arguments.work_dir) as unfinished:
            start = write_bundle(arguments, Path(unfinished, "app", "model", NAME), images)
            shutil.rmtree(app, ignore_errors=True)
            Path(unfinished, "app").rename(app)
    for old in (path for path in app.iterdir() if path.name not in ("model", "logs")):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(CODE, app, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return start


def write_bundle(arguments: Namespace, bundle: Path, images: Sequence[Path]) -> str:
    """Put the bundle with its weights into a new folder. Returns a sentence about the weights."""
    options = read_set(arguments.set, "train.json", "inference.json")
    recipe, trained = arguments.recipe, arguments.checkpoint
    if not (trained or options or recipe) and SHIPPED.is_file():
        trained = SHIPPED
    if trained:
        options = {"learning_rate": FINE_TUNING_RATE, **with_carried(options, trained)}
        recipe = recipe or recipe_of(options)
    copy_bundle(bundle, options, recipe)
    refuse_other_kind(images, bundle)
    from_imagenet = bool(copy_encoder(bundle))
    weights = bundle / "models" / "model.pt"
    if trained:
        save_weights(trained, bundle / "configs", weights)
        if arguments.checkpoint:
            return f"Starting from the weights in {arguments.checkpoint}"
        return "No --checkpoint: starting from the weights for polyps that ship with the bundle."
    torch.manual_seed(0)
    torch.save(new_network(bundle / "configs", "train.json").state_dict(), weights)
    start = "an encoder from ImageNet, all else random" if from_imagenet else "random weights"
    return f"No --checkpoint: starting from {start}. Label some images and train before you trust anything."
