#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Pack the bundle with its code and weights, for the MONAI model zoo, a Hugging Face repository or a colleague.

    python scripts/package_bundle.py --checkpoint output/models/model.pt

writes dist/unetv2_lesion_segmentation_v<version>/unetv2_lesion_segmentation/ and a zip of it. The package unetv2_monai
is in it, so that it takes no more than an installation of its requirements.txt to run. The same input gives the same
bytes. For weights that were not trained with the default options, name those that differ: --set backbone=pvt_v2_b2.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from common.bundle import CONFIGS, ROOT
from common.command import new_parser, run
from common.options import add_set, values_of
from common.packing import NAME, SHIPPED, apply_overlay, copy_bundle, save_weights

import unetv2_monai
from unetv2_monai import InputError

FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can hold


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


def write_large_files(folder: Path, url: str) -> None:
    """Move the weights out of the bundle; ``monai.bundle download_large_files`` fetches and verifies them."""
    weights = folder / "models" / "model.pt"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
    weights.rename(folder.parent / "model.pt")
    weights.parent.rmdir()


def write_zip(folder: Path, target: Path) -> None:
    """The same files give the same zip: names are sorted, dates and modes are constant."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), FIRST_DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="default: bundle/models/model.pt")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "dist", help="default: dist")
    add_set(parser, "options that the weights need")
    parser.add_argument("--recipe", help="what the weights were trained with, such as volumes")
    parser.add_argument("--weights_url", help="leave the weights out; large_files.yml names this address")
    arguments = parser.parse_args(argv)

    version = check_versions()
    options = values_of(arguments.set)
    target = arguments.output_dir / f"{NAME}_v{version}"
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    folder, archive = unfinished / NAME, unfinished / "archive.zip"
    try:
        copy_bundle(folder, options, arguments.recipe)
        save_weights(arguments.checkpoint, folder / "configs", folder / "models" / "model.pt")
        if not SHIPPED.is_file() or arguments.checkpoint.read_bytes() != SHIPPED.read_bytes():
            apply_overlay(folder / "configs" / "metadata.json", {"eval_metrics": {}})  # scores of other weights
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
    run(main)
