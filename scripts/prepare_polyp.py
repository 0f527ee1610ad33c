#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make one data set of published polyp data sets, unpacked as their publishers ship them: images/, masks/ and
datalist.json with split, source, licence and SHA-256 of every file.

Kvasir-SEG and CVC-ClinicDB are split as in the usual benchmark: 1450 pairs to train on and 100 and 62 to test on. A
tenth of the training pairs is held out for validation, of CVC-ClinicDB in runs of 20 frames, since it numbers the
frames of its videos. ETIS, CVC-ColonDB and CVC-300 are tests. Instead of the five, --joint takes the folder that PraNet
and later papers share, with TrainDataset/ and TestDataset/.

Run it again at any time: it goes on where it was stopped, and mends what was changed.

    python scripts/prepare_polyp.py --kvasir Kvasir-SEG --clinicdb CVC-ClinicDB --output_dir data/polyp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prepare import folder_of, hold_out, pairs_of, place_all, write_datalist

from unetv2_monai import InputError

# data set -> folders of images, folders of masks, source, terms
DATASETS = {
    "kvasir": (
        ["images"],
        ["masks"],
        "https://datasets.simula.no/kvasir-seg/",
        "research and education",
    ),
    "clinicdb": (
        ["Original", "PNG/Original", "TIF/Original", "images"],
        ["Ground Truth", "PNG/Ground Truth", "TIF/Ground Truth", "masks"],
        "https://polyp.grand-challenge.org/CVCClinicDB/",
        "research, with citation",
    ),
    "colondb": (
        ["images", "CVC-ColonDB", "CVC-ColonDB/images", "Original"],
        ["masks", "GT", "CVC-ColonDB/masks", "Ground Truth"],
        "http://vi.cvc.uab.es/colon-qa/cvccolondb/",
        "research, with citation",
    ),
    "cvc300": (
        ["bbdd", "CVC-300/bbdd", "images"],
        ["gtpolyp", "CVC-300/gtpolyp", "masks"],
        "http://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/",
        "research, with citation",
    ),
    "etis": (
        ["ETIS-LaribPolypDB", "images", "Original"],
        ["Ground Truth", "GroundTruth", "masks"],
        "https://polyp.grand-challenge.org/EtisLarib/",
        "research, with citation",
    ),
}
JOINT = {"kvasir": "Kvasir", "clinicdb": "CVC-ClinicDB", "colondb": "CVC-ColonDB", "cvc300": "CVC-300"}
JOINT["etis"] = "ETIS-LaribPolypDB"


def test_names() -> dict[str, set[str]]:
    """Names of the test images of Kvasir-SEG and CVC-ClinicDB."""
    names: dict[str, set[str]] = {"kvasir": set(), "clinicdb": set()}
    for line in Path(__file__).with_name("polyp_test_names.txt").read_text().splitlines():
        if not line.startswith("#"):
            dataset, name = line.split()
            names[dataset].add(name)
    return names


def mask_stem(stem: str) -> str:
    """ETIS and CVC-ColonDB put a p before the number of the image."""
    return stem[1:] if stem[:1] == "p" and stem[1:].isdigit() else stem


def found_pairs(dataset: str, root: Path) -> list[tuple[str, Path, Path]]:
    images, masks, _, _ = DATASETS[dataset]
    if not root.is_dir():
        raise InputError(f"--{dataset} {root} does not exist.")
    return list(pairs_of(folder_of(root, images, "images"), folder_of(root, masks, "masks"), mask_stem))


def joint_pairs(root: Path, part: str) -> list[tuple[str, Path, Path]]:
    folder = folder_of(root, [part], "the joint data")
    images = folder_of(folder, ["images", "image"], "images")
    return list(pairs_of(images, folder_of(folder, ["masks", "mask"], "masks"), mask_stem))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for dataset, (images, masks, source, _) in DATASETS.items():
        parser.add_argument(f"--{dataset}", type=Path, metavar="DIR",
                            help=f"{source} with {images[0]}/ and {masks[0]}/")  # fmt: skip
    parser.add_argument("--joint", type=Path, metavar="DIR", help="instead: TrainDataset/ and TestDataset/SET/")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument(
        "--val_fraction", type=float, default=0.1, help="share of training pairs held out (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the held-out pairs (default: 0)")
    options = parser.parse_args(arguments)
    given = {dataset: path for dataset in DATASETS if (path := getattr(options, dataset)) is not None}
    if bool(given) == bool(options.joint):
        raise InputError(f"Name the folder of at least one data set (--{', --'.join(DATASETS)}), or --joint.")

    # everything is found before anything is written
    train: dict[str, list] = {}
    test: dict[str, list] = {}
    if options.joint:
        tests = options.joint / "TestDataset"
        test = {key: joint_pairs(tests, name) for key, name in JOINT.items() if (tests / name).is_dir()}
        for pair in joint_pairs(options.joint, "TrainDataset"):  # Kvasir's names are words, CVC-ClinicDB's numbers
            train.setdefault("clinicdb" if pair[0].isdigit() else "kvasir", []).append(pair)
    else:
        names = test_names()
        for dataset, root in given.items():
            pairs = found_pairs(dataset, root)
            held = names.get(dataset)
            test[dataset] = [pair for pair in pairs if held is None or pair[0] in held]
            train[dataset] = [pair for pair in pairs if held is not None and pair[0] not in held]

    options.output_dir.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list] = {"training": [], "validation": [], "test": []}
    for dataset in DATASETS:
        for part, pairs in (("training", train.get(dataset, [])), ("test", test.get(dataset, []))):
            named = [(f"{dataset}_{name}", image, mask) for name, image, mask in pairs]
            entries = place_all(named, options.output_dir, dataset, *DATASETS[dataset][2:])
            if part == "training" and entries:
                # CVC-ClinicDB numbers the frames of its videos in order
                block = 20 if dataset == "clinicdb" else 1
                entries, held_out = hold_out(entries, round(options.val_fraction * len(entries)), options.seed, block)
                sections["validation"] += held_out
            sections[part] += entries
    write_datalist(
        options.output_dir, "polyps", "images of colonoscopy and masks of polyps; test sets are PraNet's", sections
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
