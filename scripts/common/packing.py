# SPDX-License-Identifier: Apache-2.0
"""Copy the bundle with its code and weights, so that the copy runs without this repository."""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

import unetv2_monai
from unetv2_monai import InputError
from unetv2_monai.bundle.carried import FREE_OPTIONS
from unetv2_monai.bundle.options import full_size, references
from unetv2_monai.networks import options_of, read_weights, with_options

from .bundle import BUNDLE, read_config

NAME = "unetv2_lesion_segmentation"
PACKAGE = Path(unetv2_monai.__file__).resolve().parent
MODELS = BUNDLE / "models"
SHIPPED = MODELS / "model.pt"


def copy_bundle(folder: Path, options: dict[str, Any], recipe: str | None = None) -> None:
    """Copy configs, documents and code, but no weights. A recipe and options become the new defaults."""
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("entries", "models", "__pycache__", "output"))
    in_wheel = ("scripts", BUNDLE.name) if BUNDLE.is_relative_to(PACKAGE) else ()
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", *in_wheel))
    (folder / "requirements.txt").write_text(requirements())
    if recipe:
        apply_recipe(folder / "configs", recipe)
    if options:
        set_options(folder / "configs", options)


def requirements() -> str:
    """Return the repository's requirements.txt, or the same lines from the metadata of the installed wheel."""
    file = BUNDLE.parent / "requirements.txt"
    if file.is_file():
        return file.read_text()
    named = importlib.metadata.requires("unetv2-monai") or []
    return "".join(f"{line}\n" for line in named if "extra ==" not in line)


def copy_encoder(folder: Path) -> list[Path]:
    """Copy the ImageNet weights of the packed encoder, if there are some, and their source. Returns the copies."""
    backbone = json.loads((folder / "configs" / "train.json").read_text()).get("backbone")
    found = [MODELS / f"{backbone}{ending}" for ending in (".safetensors", ".txt")]
    (folder / "models").mkdir(exist_ok=True)
    return [Path(shutil.copy(path, folder / "models")) for path in found if path.is_file()]


def apply_recipe(configs: Path, recipe: str) -> None:
    """Make a recipe the default: apply <recipe>.yaml to train.json, and its keys that inference.json has to that file.
    If they exist, <recipe>_inference.yaml replaces these keys, and <recipe>_metadata.yaml is for metadata.json.
    """
    files = {path.stem: path for path in configs.glob("recipes/*.yaml")}
    if recipe not in files:
        known = sorted(name for name in files if not name.endswith(("_inference", "_metadata")))
        raise InputError(f"--recipe {recipe}: there is {', '.join(known)}.")
    contents = {name: ConfigParser.load_config_file(str(path)) for name, path in files.items()}
    inference = json.loads((configs / "inference.json").read_text())
    overlay = contents.get(f"{recipe}_inference") or used_by(inference, contents[recipe])
    # if train.json had them, MONAI Label would demand a value for each in every training request
    training = {key: value for key, value in contents[recipe].items() if key != "displayable_configs"}
    apply_overlay(configs / "train.json", training)
    apply_overlay(configs / "inference.json", overlay)
    if f"{recipe}_metadata" in contents:
        apply_overlay(configs / "metadata.json", contents[f"{recipe}_metadata"])
    else:
        set_metadata(configs / "metadata.json", overlay)


def used_by(config: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an overlay that replaces something in a config, and all that this part refers to."""
    known = _places(config) | {"spatial_dims"}  # it tells the check of options that the network is for volumes
    used: dict[str, Any] = {}
    count = -1
    while len(used) > count:
        count = len(used)
        used = {key: value for key, value in overlay.items() if _place(key) in known}
        known |= {_place(reference) for reference in references(used)}
    return used


def _place(key: str) -> str:
    """Return ``transforms#NAME`` for a key below ``transforms``, else the topmost key."""
    return "#".join(key.split("#")[: 1 + key.startswith("transforms#")])


def _places(config: Mapping[str, Any]) -> set[str]:
    return {*config, *(f"transforms#{name}" for name in config["transforms"])}


def apply_overlay(path: Path, overlay: dict[str, Any]) -> None:
    """Apply an overlay to a config file."""
    parser = ConfigParser(ConfigParser.load_config_file(str(path)))
    for key, value in overlay.items():
        merge_kv(parser, key, value)
    path.write_text(json.dumps(parser.config, indent=4) + "\n")


def set_options(configs: Path, options: Mapping[str, Any]) -> None:
    """Change the defaults of train.json and inference.json, and what metadata.json says of the network."""
    for name in ("train.json", "inference.json"):
        content = json.loads((configs / name).read_text())
        if "image_size" in options:
            options = {**options, "image_size": full_size({**content, "image_size": options["image_size"]})}
        apply_overlay(configs / name, {key: value for key, value in options.items() if _place(key) in _places(content)})
    set_metadata(configs / "metadata.json", options)


def set_metadata(path: Path, options: Mapping[str, Any]) -> None:
    """Update sizes, channels, classes and modality in metadata.json from the options."""
    metadata = json.loads(path.read_text())
    image, pred = (metadata["network_data_format"][side] for side in ("inputs", "outputs"))
    image, pred = image["image"], pred["pred"]
    volumes = len(image["spatial_shape"]) == 3
    if size := options.get("image_size"):
        image["spatial_shape"] = pred["spatial_shape"] = size
    if (count := options.get("in_channels", image["num_channels"])) != image["num_channels"]:
        image.update(num_channels=count, channel_def={str(index): f"channel_{index}" for index in range(count)})
    count, names = options.get("out_channels", pred["num_channels"]), options.get("class_names", [])
    if count != pred["num_channels"] or names:
        names = names or ["background", *(["lesion"] if count == 1 else [f"class_{i}" for i in range(1, count)])]
        named = {str(index): name for index, name in enumerate(names)}
        pred.update(num_channels=count, channel_def=named)
        if volumes or count > 1:
            classes = ", ".join(f"{index} {name}" for index, name in named.items())
            metadata.update(label_classes=classes, pred_classes=classes)
    if volumes and options.get("intensity") == "ct":
        image["modality"] = "CT"
    path.write_text(json.dumps(metadata, indent=4) + "\n")


def new_network(configs: Path, file: str = "inference.json") -> torch.nn.Module:
    """Build a copied bundle's network, from inference.json with random weights, or from train.json as training does."""
    network: torch.nn.Module = read_config([file], folder=configs).get_parsed_content("network_def")
    return network


def save_weights(checkpoint: Path, configs: Path, target: Path) -> None:
    """Write a checkpoint's weights. They must fit the copied bundle's network, and carry its values of free options."""
    weights, now = read_weights(checkpoint, new_network(configs)), read_config(["inference.json"], folder=configs)
    carried = {key: now[key] if key in FREE_OPTIONS else value for key, value in options_of(weights).items()}
    target.parent.mkdir(exist_ok=True)
    torch.save(with_options(weights, carried) if carried else weights, target)
