# SPDX-License-Identifier: Apache-2.0
"""The app of a labelling server: its code, and the bundle with its weights."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from common.bundle import read_config
from common.options import refuse_unknown, values_of, with_carried
from common.packing import NAME, SHIPPED, copy_bundle, copy_encoder, new_network, save_weights

from .images import refuse_other_kind

CODE = Path(__file__).resolve().parents[1] / "label_app"
FINE_TUNING_RATE = 0.0003  # learning rate from trained weights, which 0.001 makes worse on few labels


def prepare_app(arguments: Namespace, images: Sequence[Path]) -> str:
    """
    Put the bundle and its weights into the app's folder, unless they are there, and the app's code beside it. Returns a
    sentence about the weights. Raises InputError, and writes nothing, when images or weights do not fit the network.
    """
    app, unfinished = arguments.work_dir / "app", arguments.work_dir / "app.unfinished"
    bundle = app / "model" / NAME
    if (weights := bundle / "models" / "model.pt").is_file():
        refuse_other_kind(images, bundle)
        start = f"Going on with the weights in {weights}"
    else:
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            start = write_bundle(arguments, unfinished / "model" / NAME, images)
            shutil.rmtree(app, ignore_errors=True)
            unfinished.rename(app)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    for old in (path for path in app.iterdir() if path.name not in ("model", "logs")):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(CODE, app, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return start


def write_bundle(arguments: Namespace, bundle: Path, images: Sequence[Path]) -> str:
    """The bundle with its weights in a new folder. Returns a sentence about the weights."""
    refuse_unknown(arguments.set, *(read_config([name]) for name in ("train.json", "inference.json")))
    options, recipe, trained = values_of(arguments.set), arguments.recipe, arguments.checkpoint
    if not (trained or options or recipe) and SHIPPED.is_file():
        trained = SHIPPED
    if trained:
        options = {"learning_rate": FINE_TUNING_RATE, **with_carried(options, trained)}
        recipe = recipe or ("volumes" if options.get("spatial_dims") == 3 else None)
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
