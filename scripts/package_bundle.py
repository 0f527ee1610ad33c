#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Pack the bundle with its code and weights, for the MONAI model zoo, a Hugging Face repository or a colleague.

    python scripts/package_bundle.py                                      # all of bundle/entries that have weights
    python scripts/package_bundle.py --entry skin_lesions                 # one of them
    python scripts/package_bundle.py --checkpoint output/models/model.pt  # weights of your own

writes dist/<name>_v<version>/<name>/ and a zip of it for each. An entry has its own model card, scores and terms of
data. Weights of your own have no scores, and make no claim about data unless --entry says that they were trained on
that entry's data.

models/model.onnx has the same weights for scripts/segment.py and other runtimes; --no_onnx leaves it out. The package
unetv2_monai is in it, so that it takes no more than an installation of its requirements.txt to run. The
same input gives the same bytes. For weights that were not trained with the default options, name those that differ:
--set backbone=pvt_v2_b2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from common.bundle import CONFIGS, ROOT
from common.cards import made_sections, write_card, write_terms
from common.command import new_parser, run
from common.entries import OWN_WEIGHTS, ZooEntry, eval_metrics, known_entries, read_entry
from common.options import add_set, values_of
from common.packing import apply_overlay, copy_bundle, copy_encoder, new_network, save_onnx, save_weights

import unetv2_monai
from unetv2_monai import InputError

FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can hold
ENCODER_DATA = "ImageNet-1k"  # of docs/data_license.txt, for packages with an encoder's weights


def check_versions() -> str:
    """The version, on which the package, metadata.json and the changelogs must agree."""
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    version = metadata["version"]
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if unetv2_monai.__version__ != version or version not in metadata["changelog"] or released[:1] != [version]:
        raise InputError(
            f"versions differ: unetv2_monai.__version__ {unetv2_monai.__version__}, metadata.json {version} (its "
            f"changelog: {', '.join(metadata['changelog'])}), CHANGELOG.md {', '.join(released) or 'none'}. "
            "Name the new version in all of them."
        )
    return version


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[ZooEntry, Path]]:
    """What the command line asks for: entries, each with its file of weights."""
    if arguments.checkpoint:
        entry = read_entry(arguments.entry) if arguments.entry else OWN_WEIGHTS
        options = {**entry.options, **values_of(arguments.set)}
        entry = replace(entry, options=options, recipe=arguments.recipe or entry.recipe, scores=None)
        yield entry, arguments.checkpoint
        return
    if arguments.set or arguments.recipe:
        raise InputError("--set and --recipe are for weights of your own: name these by --checkpoint.")
    if arguments.entry:
        entry = read_entry(arguments.entry)
        yield entry, entry.weights_file
        return
    if arguments.weights_url:
        raise InputError("--weights_url is the address of one file: choose a package by --entry or --checkpoint.")
    for key in known_entries():
        entry = read_entry(key)
        if entry.weights_file.is_file():
            yield entry, entry.weights_file
        else:
            print(f"left out: {key}, since there is no bundle/models/{entry.weights}")


def write_documents(folder: Path, entry: ZooEntry, checkpoint: Path, encoder: bool, onnx: bool) -> None:
    """Metadata, model card and terms of data, of the entry and of what is packed; the ONNX file, which has metadata."""
    configs, docs = folder / "configs", folder / "docs"
    scores = entry.scores.read(checkpoint) if entry.scores else None
    if entry.scores and scores is None:
        print(f"{entry.name}: packed without scores, since the stored ones are of other weights")
    data = []
    if entry.data is not None:
        data = write_terms(docs / "data_license.txt", [*entry.data, *[ENCODER_DATA] * encoder])
    overlay = {**entry.metadata, "eval_metrics": eval_metrics(scores or {}), "+references": [one.cite for one in data]}
    apply_overlay(configs / "metadata.json", overlay)
    if onnx and (reason := save_onnx(folder)):
        print(f"{entry.name}: packed without models/model.onnx: {reason}")
    parameters = sum(parameter.numel() for parameter in new_network(configs).parameters())
    write_card(docs / "README.md", entry.card, made_sections(configs, data, scores, parameters))


def write_large_files(folder: Path, url: str) -> None:
    """Move the weights out of the bundle; ``monai.bundle download_large_files`` fetches and verifies them."""
    weights = folder / "models" / "model.pt"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    weights.rename(folder.parent / "model.pt")
    if not any(weights.parent.iterdir()):
        weights.parent.rmdir()


def write_zip(folder: Path, target: Path) -> None:
    """The same files give the same zip: names are sorted, dates and modes are constant."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), FIRST_DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def pack(entry: ZooEntry, checkpoint: Path, target: Path, weights_url: str | None, onnx: bool) -> Path:
    """
    Write one package.

    Args:
        entry: what the package has of its own.
        checkpoint: file of its weights.
        target: folder of the package; the zip is beside it.
        weights_url: address of the weights, which are then not in the zip, or None.
        onnx: also write ``models/model.onnx``, where that is possible.

    Returns:
        The zip.
    """
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    folder, archive = unfinished / entry.name, unfinished / "archive.zip"
    try:
        copy_bundle(folder, entry.options, entry.recipe)
        encoder = copy_encoder(folder)
        save_weights(checkpoint, folder / "configs", folder / "models" / "model.pt")
        write_documents(folder, entry, checkpoint, bool(encoder), onnx)
        if weights_url:
            write_large_files(folder, weights_url)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in files)
        (folder / "SHA256SUMS").write_text(sums)
        write_zip(folder, archive)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    archive = archive.rename(target.with_name(target.name + ".zip"))
    unfinished.rename(target)
    return archive


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--entry", help="a folder of bundle/entries; default: all that have weights")
    parser.add_argument("--checkpoint", type=Path, help="weights of your own")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "dist", help="default: dist")
    add_set(parser, "options that your own weights need")
    parser.add_argument("--recipe", help="what your own weights were trained with, such as volumes")
    parser.add_argument("--weights_url", help="leave all weights out; large_files.yml names this address of model.pt")
    parser.add_argument("--no_onnx", action="store_true", help="leave out models/model.onnx")
    arguments = parser.parse_args(argv)

    version = check_versions()
    onnx = not arguments.no_onnx and not arguments.weights_url
    archives = [
        pack(entry, checkpoint, arguments.output_dir / f"{entry.name}_v{version}", arguments.weights_url, onnx)
        for entry, checkpoint in chosen(arguments)
    ]
    if not archives:
        raise InputError("no entry has weights: name your own by --checkpoint.")
    for archive in archives:
        print(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
