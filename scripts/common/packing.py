# SPDX-License-Identifier: Apache-2.0
"""A copy of the bundle with its code and weights, which runs without this repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from unetv2_monai import InputError
from unetv2_monai.networks import read_weights

from .bundle import BUNDLE, ROOT, read_config
from .options import refuse_unknown

__all__ = [
    "MODELS",
    "NAME",
    "SHIPPED",
    "apply_overlay",
    "copy_bundle",
    "copy_encoder",
    "new_network",
    "save_weights",
]

NAME = "unetv2_lesion_segmentation"
MODELS = BUNDLE / "models"
SHIPPED = MODELS / "model.pt"


def copy_bundle(folder: Path, options: dict[str, Any], recipe: str | None = None) -> None:
    """Configs, documents and code, with a recipe and options as the new defaults; no weights."""
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("entries", "models", "__pycache__", "output"))
    shutil.copytree(ROOT / "unetv2_monai", folder / "unetv2_monai", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", folder)
    if recipe:
        apply_recipe(folder / "configs", recipe)
    if options:
        set_options(folder / "configs", options)


def copy_encoder(folder: Path) -> list[Path]:
    """
    The ImageNet weights of the copied bundle's encoder, from which its training starts, and the text that names their
    source. Empty when this repository has none of that encoder.
    """
    backbone = json.loads((folder / "configs" / "train.json").read_text()).get("backbone")
    found = [MODELS / f"{backbone}{ending}" for ending in (".safetensors", ".txt")]
    (folder / "models").mkdir(exist_ok=True)
    return [Path(shutil.copy(path, folder / "models")) for path in found if path.is_file()]


def apply_recipe(configs: Path, recipe: str) -> None:
    """
    Make a recipe the default: configs/recipes/<recipe>.yaml of train.json, and <recipe>_inference.yaml and
    <recipe>_metadata.yaml of the other two. Without an _inference file, inference takes the recipe's network and sizes.
    """
    folder = configs / "recipes"
    if not (folder / f"{recipe}.yaml").is_file():
        known = sorted(
            path.stem for path in folder.glob("*.yaml") if not path.stem.endswith(("_inference", "_metadata"))
        )
        raise InputError(f"--recipe {recipe}: there is {', '.join(known)}.")
    overlays = {"train": recipe, "inference": f"{recipe}_inference", "metadata": f"{recipe}_metadata"}
    for name, overlay in overlays.items():
        if (folder / f"{overlay}.yaml").is_file():
            apply_overlay(configs / f"{name}.json", ConfigParser.load_config_file(str(folder / f"{overlay}.yaml")))
    if not (folder / f"{recipe}_inference.yaml").is_file():
        content = ConfigParser.load_config_file(str(folder / f"{recipe}.yaml"))
        network = {key: value for key, value in content.items() if key.split("#")[0] == "network_def"}
        apply_overlay(configs / "inference.json", network)
        set_options(
            configs, {key: content[key] for key in ("backbone", "image_size", "out_channels") if key in content}
        )


def apply_overlay(path: Path, overlay: dict[str, Any]) -> None:
    """Write a config with an overlay applied to it."""
    parser = ConfigParser(ConfigParser.load_config_file(str(path)))
    for key, value in overlay.items():
        merge_kv(parser, key, value)
    path.write_text(json.dumps(parser.config, indent=4) + "\n")


def set_options(configs: Path, options: dict[str, Any]) -> None:
    """Change the defaults of train.json and inference.json, and what metadata.json says of the network."""
    contents = {name: json.loads((configs / name).read_text()) for name in ("train.json", "inference.json")}
    refuse_unknown(options, *contents.values())
    for name, content in contents.items():
        apply_overlay(configs / name, {key: value for key, value in options.items() if key.split("#")[0] in content})
    metadata = json.loads((configs / "metadata.json").read_text())
    formats = metadata["network_data_format"]
    volumes = len(formats["inputs"]["image"]["spatial_shape"]) == 3
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        size = options.get("image_size", tensor["spatial_shape"])
        tensor["spatial_shape"] = [size] * len(tensor["spatial_shape"]) if isinstance(size, int) else size
    if count := options.get("in_channels"):
        formats["inputs"]["image"]["num_channels"] = count
        if count != len(formats["inputs"]["image"]["channel_def"]):
            formats["inputs"]["image"]["channel_def"] = {str(index): f"channel_{index}" for index in range(count)}
    if count := options.get("out_channels"):
        names = ["lesion"] if count == 1 else [f"class_{index}" for index in range(1, count)]
        named = {str(index): name for index, name in enumerate(["background", *names])}
        formats["outputs"]["pred"].update(num_channels=count, channel_def=named)
        if volumes or count > 1:
            classes = ", ".join(f"{index} {name}" for index, name in named.items())
            metadata.update(label_classes=classes, pred_classes=classes)
    if volumes and options.get("intensity") == "ct":
        formats["inputs"]["image"]["modality"] = "CT"
    (configs / "metadata.json").write_text(json.dumps(metadata, indent=4) + "\n")


def new_network(configs: Path, file: str = "inference.json") -> torch.nn.Module:
    """The network of a copied bundle: of inference.json with random weights, of train.json as training starts it."""
    network: torch.nn.Module = read_config([file], folder=configs).get_parsed_content("network_def")
    return network


def save_weights(checkpoint: Path, configs: Path, target: Path) -> None:
    """Write the weights alone, of a checkpoint that holds those of the copied bundle's network."""
    weights = read_weights(checkpoint, new_network(configs))
    target.parent.mkdir(exist_ok=True)
    torch.save(weights, target)
