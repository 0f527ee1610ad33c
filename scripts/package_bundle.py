#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Pack the bundle with its code and weights, ready for the MONAI model zoo, a Hugging Face repository or a colleague.

    python scripts/package_bundle.py --checkpoint output/models/model.pt

writes dist/unetv2_lesion_segmentation_v<version>/unetv2_lesion_segmentation/ and the zip of it. Where it is unpacked,
nothing needs to be installed but requirements.txt: the package unetv2_monai travels inside. The same input gives the
same bytes. For weights that were not trained with the defaults, name what differs: --set backbone=pvt_v2_b2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

import unetv2_monai
from unetv2_monai import InputError, StrictCheckpointLoader

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "bundle" / "models" / "model.pt"
NAME = "unetv2_lesion_segmentation"
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can hold


def check_versions() -> str:
    """The version, which package, metadata and changelogs must agree on."""
    metadata = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())
    version = metadata["version"]
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if unetv2_monai.__version__ != version or version not in metadata["changelog"] or released[:1] != [version]:
        raise InputError(
            f"versions differ: unetv2_monai.__version__ {unetv2_monai.__version__}, metadata.json {version} (its "
            f"changelog: {', '.join(metadata['changelog'])}), CHANGELOG.md {', '.join(released) or 'none'}. "
            "Name the new version in all of them."
        )
    return version


def copy_bundle(folder: Path, options: dict[str, Any], recipe: str | None = None) -> None:
    """Configs, documents and code, with a recipe and options as the new defaults; no weights."""
    shutil.copytree(ROOT / "bundle", folder, ignore=shutil.ignore_patterns("models", "__pycache__", "output"))
    shutil.copytree(ROOT / "unetv2_monai", folder / "unetv2_monai", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", folder)
    if recipe:
        apply_recipe(folder / "configs", recipe)
    if options:
        set_options(folder / "configs", options)


def apply_recipe(configs: Path, recipe: str) -> None:
    """
    Lay configs/recipes/<recipe>.yaml over train.json, and its _inference and _metadata files over theirs. Where there
    is no _inference file, inference takes the recipe's network and image size.
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
            lay_over(configs / f"{name}.json", ConfigParser.load_config_file(str(folder / f"{overlay}.yaml")))
    if not (folder / f"{recipe}_inference.yaml").is_file():
        content = ConfigParser.load_config_file(str(folder / f"{recipe}.yaml"))
        network = {key: value for key, value in content.items() if key.split("#")[0] == "network_def"}
        lay_over(configs / "inference.json", network)
        set_options(
            configs, {key: content[key] for key in ("backbone", "image_size", "out_channels") if key in content}
        )


def lay_over(path: Path, overlay: dict[str, Any]) -> None:
    """Write a config with an overlay in it."""
    parser = ConfigParser(ConfigParser.load_config_file(str(path)))
    for key, value in overlay.items():
        merge_kv(parser, key, value)
    path.write_text(json.dumps(parser.config, indent=4) + "\n")


def set_options(configs: Path, options: dict[str, Any]) -> None:
    """Change the defaults of train.json and inference.json, and what metadata.json says of the network."""
    contents = {name: json.loads((configs / name).read_text()) for name in ("train.json", "inference.json")}
    unknown = [key for key in options if not any(key.split("#")[0] in content for content in contents.values())]
    if unknown:
        raise InputError(f"--set {unknown[0]}: not an option of the configs, see docs/configuration.md.")
    for name, content in contents.items():
        lay_over(configs / name, {key: value for key, value in options.items() if key.split("#")[0] in content})
    metadata = json.loads((configs / "metadata.json").read_text())
    formats = metadata["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        size = options.get("image_size", tensor["spatial_shape"])
        tensor["spatial_shape"] = [size] * len(tensor["spatial_shape"]) if isinstance(size, int) else size
    if "out_channels" in options and options["out_channels"] > 1:
        formats["outputs"]["pred"]["num_channels"] = options["out_channels"]
        formats["outputs"]["pred"]["channel_def"] = {
            str(index): f"class_{index}" if index else "background" for index in range(options["out_channels"])
        }
    (configs / "metadata.json").write_text(json.dumps(metadata, indent=4) + "\n")


def save_weights(checkpoint: Path, configs: Path, target: Path) -> None:
    """The weights alone, once they have proven to be this network's."""
    parser = ConfigParser()
    parser.read_config(str(configs / "inference.json"))
    network = parser.get_parsed_content("network_def")
    StrictCheckpointLoader(str(checkpoint), {"model": network})
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    target.parent.mkdir()
    torch.save(content.get("model", content), target)


def write_large_files(folder: Path, url: str) -> None:
    """Leave the weights out; ``monai.bundle download_large_files`` fetches and verifies them."""
    weights = folder / "models" / "model.pt"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    weights.rename(folder.parent / "model.pt")
    weights.parent.rmdir()


def write_zip(folder: Path, target: Path) -> None:
    """Sorted, undated and of one mode: the same files give the same zip."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), FIRST_DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="default: bundle/models/model.pt")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options that the weights need")
    parser.add_argument("--recipe", help="what the weights were trained with, such as volumes")
    parser.add_argument("--weights_url", help="leave the weights out and name in large_files.yml where they are")
    arguments = parser.parse_args(argv)

    version = check_versions()
    options = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    target = arguments.output_dir / f"{NAME}_v{version}"
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    folder, archive = unfinished / NAME, unfinished / "archive.zip"
    try:
        copy_bundle(folder, options, arguments.recipe)
        save_weights(arguments.checkpoint, folder / "configs", folder / "models" / "model.pt")
        if not SHIPPED.is_file() or arguments.checkpoint.read_bytes() != SHIPPED.read_bytes():
            lay_over(folder / "configs" / "metadata.json", {"eval_metrics": {}})  # scores of other weights
        if arguments.weights_url:
            write_large_files(folder, arguments.weights_url)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in files)
        (folder / "SHA256SUMS").write_text(sums)
        write_zip(folder, archive)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    shutil.rmtree(target, ignore_errors=True)
    archive = archive.rename(target.with_name(target.name + ".zip"))
    unfinished.rename(target)

    print(sums, end="")
    print(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
