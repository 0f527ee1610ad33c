#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Pack the bundle with its code and weights, for the MONAI model zoo, a Hugging Face repository or a colleague.

    python scripts/package_bundle.py                                      # all of bundle/entries that have weights
    python scripts/package_bundle.py --entry skin_lesions                 # one of them
    python scripts/package_bundle.py --checkpoint output/models/model.pt  # weights of your own

writes dist/<name>_v<version>/<name>/ and a zip of it for each package. The same input gives the same bytes. A package
of your own weights has no scores, and the data terms of --entry alone. docs/how-to/deploy.md says what it holds. For
older weights that carry no options, set those that differ from the defaults: --set backbone=pvt_v2_b2.
"""

import argparse
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from common.bundle import BUNDLE
from common.command import new_parser, run
from common.exports import FORMATS, describe, write_onnx
from common.options import add_set, read_set, with_carried
from common.packing import NAME, apply_overlay, copy_bundle, copy_encoder, new_network, save_weights

from unetv2_monai import InputError, __version__, load_weights
from unetv2_monai.core.files import sha256_of
from unetv2_monai.entries import Entry, entry_keys, read_entry, recipe_of

FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can hold


def chosen(arguments: argparse.Namespace) -> Iterator[Entry]:
    """Yield the entries that the command line asks for, or one entry for the user's own weights."""
    entry = read_entry(arguments.entry) if arguments.entry else None
    if arguments.checkpoint:
        own = entry or Entry(BUNDLE / "docs", NAME, arguments.checkpoint, sha256="")
        given = read_set(arguments.set, "train.json", "inference.json")
        options = {**own.options, **with_carried(given, arguments.checkpoint)}
        recipe = arguments.recipe or own.recipe or recipe_of(options)
        if recipe == "volumes" and not entry and (count := options.get("out_channels", 3)) > 1:
            # the recipe's metadata name the parts of the hippocampus
            options = {"class_names": ["background", *(f"class_{index}" for index in range(1, count))], **options}
        yield replace(own, weights=arguments.checkpoint, sha256="", recipe=recipe, options=options)
    elif arguments.set or arguments.recipe:
        raise InputError("--set and --recipe are for weights of your own: name these by --checkpoint.")
    elif entry:
        yield entry
    elif arguments.weights_url:
        raise InputError("--weights_url is the address of one file: choose a package by --entry or --checkpoint.")
    else:
        for key in entry_keys():
            entry = read_entry(key)
            if entry.weights.is_file():
                yield entry
            else:
                print(f"left out: {key}, since there is no bundle/models/{entry.weights.name}")


def write_documents(folder: Path, entry: Entry) -> None:
    """Write the overlay of metadata.json, the model card and the terms of the data."""
    metadata, docs = folder / "configs" / "metadata.json", folder / "docs"
    shutil.copy(entry.folder / "data_license.txt", docs)
    if sha256_of(entry.weights) == entry.sha256:
        apply_overlay(metadata, {**entry.metadata, "eval_metrics": entry.eval_metrics})
        shutil.copy(entry.folder / "README.md", docs)
    else:
        apply_overlay(metadata, entry.metadata)
        if entry.sha256:
            print(f"{entry.name}: packed with a general model card, since the stored scores are of other weights")


def save_onnx(folder: Path) -> str:
    """Write ``models/model.onnx`` of a copied bundle from its weights. Returns why that failed, or ""."""
    weights, target = folder / "models" / "model.pt", folder / "models" / FORMATS["onnx"].file
    if missing := FORMATS["onnx"].missing_packages():
        return f"pip install {' '.join(missing)}"
    network = new_network(folder / "configs").eval()
    if next(network.parameters()).ndim != 4:
        return "segment.py is for images, this network for volumes"
    load_weights(network, weights)
    try:
        write_onnx(network, describe({}, weights, folder / "configs"), target)
    except InputError as error:
        return str(error)
    except torch.onnx.errors.OnnxExporterError as error:
        target.unlink(missing_ok=True)
        return f"PyTorch {torch.__version__} cannot export this network ({type(error).__name__})"
    return ""


def write_large_files(folder: Path, url: str) -> None:
    """Move the weights out of the bundle; ``monai.bundle download_large_files`` fetches and verifies them."""
    weights = folder / "models" / "model.pt"
    entry = {"path": "models/model.pt", "url": url, "hash_val": sha256_of(weights), "hash_type": "sha256"}
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    weights.rename(folder.parent / "model.pt")
    if not any(weights.parent.iterdir()):
        weights.parent.rmdir()


def write_zip(folder: Path, target: Path) -> Path:
    """Write a zip that is the same for the same files: names are sorted, dates and modes are constant."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), FIRST_DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return target


def pack(entry: Entry, target: Path, weights_url: str | None, onnx: bool) -> Path:
    """Write one package and its zip: without weights if ``weights_url`` is given, with an ONNX file if possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=target.parent) as unfinished:
        folder, archive = Path(unfinished, "package", entry.name), target.with_name(f"{target.name}.zip")
        copy_bundle(folder, entry.options, entry.recipe)
        copy_encoder(folder)
        save_weights(entry.weights, folder / "configs", folder / "models" / "model.pt")
        write_documents(folder, entry)
        if onnx and (reason := save_onnx(folder)):
            print(f"{entry.name}: packed without models/model.onnx: {reason}")
        if weights_url:
            write_large_files(folder, weights_url)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = "".join(f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files)
        (folder / "SHA256SUMS").write_text(sums)
        write_zip(folder, Path(unfinished, archive.name)).replace(archive)
        shutil.rmtree(target, ignore_errors=True)
        folder.parent.rename(target)
    return archive


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--entry", help="a folder of bundle/entries; default: all that have weights")
    parser.add_argument("--checkpoint", type=Path, help="weights of your own")
    parser.add_argument("--output_dir", type=Path, default=Path("dist"), help="default: dist")
    add_set(parser, "options that your own weights need")
    parser.add_argument("--recipe", help="recipe that your own weights were trained with")
    parser.add_argument("--weights_url", help="leave all weights out; large_files.yml names this address of model.pt")
    parser.add_argument("--no_onnx", action="store_true", help="leave out models/model.onnx")
    arguments = parser.parse_args(argv)

    onnx = not arguments.no_onnx and not arguments.weights_url
    archives = [
        pack(entry, arguments.output_dir / f"{entry.name}_v{__version__}", arguments.weights_url, onnx)
        for entry in chosen(arguments)
    ]
    if not archives:
        raise InputError("no entry has weights: name your own by --checkpoint.")
    for archive in archives:
        print(f"{sha256_of(archive)}  {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
