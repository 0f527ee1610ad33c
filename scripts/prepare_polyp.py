#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make one data set from published polyp data sets: images/, masks/ and datalist.json with the split, the source, the
licence and the SHA-256 of every file. Name the folders as they are after unpacking the publishers' archives.

    python scripts/prepare_polyp.py --kvasir Kvasir-SEG --clinicdb CVC-ClinicDB --output_dir data/polyp
    python scripts/prepare_polyp.py --kvasir Kvasir-SEG --polypgen_c1 PolypGen/data_C1 --polypgen_c2 PolypGen/data_C2 \\
        --test polypgen_c2 --output_dir data/without_c2

The split is that of the usual benchmark. Kvasir-SEG and CVC-ClinicDB give 1450 pairs for training, and 100 and 62 for
testing. PolypGen's centres are for training. A tenth of the training pairs is held out for validation, in blocks of 20
neighbours where files are frames of videos. ETIS, CVC-ColonDB and CVC-300 are test sets only, as are the sets that
--test names. --joint takes, instead of these folders, the one that PraNet and later papers share, with TrainDataset/
and TestDataset/.

Run it again at any time: it continues where it was stopped, and restores files that were changed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from common.command import new_parser, run
from common.datasets import Entry, Pair, hold_out, match_pairs, store_all, write_datalist

from unetv2_monai import InputError

DATASETS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
Split = tuple[list[Pair], list[Pair]]  # to train on, and to test on


def split_separate(dataset: str, root: Path) -> Split:
    """Split one data set in its publisher's layout. Without a split in the benchmark, all are training or all test."""
    if not root.is_dir():
        raise InputError(f"--{dataset} {root} does not exist.")
    published = DATASETS[dataset]
    pairs = match_pairs(root, published["images"], published["masks"])
    if published.get("train"):
        return pairs, []
    tests = published.get("test") or {pair.name for pair in pairs}
    return [pair for pair in pairs if pair.name not in tests], [pair for pair in pairs if pair.name in tests]


def split_joint(root: Path) -> dict[str, Split]:
    """Split the data sets of the joint folder."""

    def pairs_of(folder: Path) -> list[Pair]:
        return match_pairs(folder, ("images", "image"), ("masks", "mask"))

    tests = {name: root / "TestDataset" / one["joint"] for name, one in DATASETS.items() if "joint" in one}
    found: dict[str, Split] = {dataset: ([], pairs_of(path)) for dataset, path in tests.items() if path.is_dir()}
    for pair in pairs_of(root / "TrainDataset"):  # Kvasir's names are words, CVC-ClinicDB's numbers
        found.setdefault("clinicdb" if pair.name.isdigit() else "kvasir", ([], []))[0].append(pair)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    for dataset, published in DATASETS.items():
        content = f"{published['source']} with {published['images'][0]}/ and {published['masks'][0]}/"
        parser.add_argument(f"--{dataset}", type=Path, metavar="DIR", help=content)
    parser.add_argument("--joint", type=Path, metavar="DIR", help="instead: with TrainDataset/ and TestDataset/SET/")
    parser.add_argument("--test", nargs="+", default=[], choices=DATASETS, metavar="SET", help="only test on these")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument("--val_fraction", type=float, default=0.1, help="share of pairs held out (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the held-out pairs (default: 0)")
    arguments = parser.parse_args(argv)
    folders = {dataset: path for dataset in DATASETS if (path := getattr(arguments, dataset)) is not None}
    if bool(folders) == bool(arguments.joint):
        raise InputError(f"Name the folder of at least one data set (--{', --'.join(DATASETS)}), or --joint.")

    # everything is found before anything is written
    if arguments.joint:
        found = split_joint(arguments.joint)
    else:
        found = {dataset: split_separate(dataset, root) for dataset, root in folders.items()}
    if unknown := [dataset for dataset in arguments.test if dataset not in found]:
        raise InputError(f"--test names {', '.join(unknown)}, but no folder of it is given.")
    found |= {dataset: ([], found[dataset][0] + found[dataset][1]) for dataset in arguments.test}

    sections: dict[str, list[Entry]] = {"training": [], "validation": [], "test": []}
    for dataset in (name for name in DATASETS if name in found):
        published = DATASETS[dataset]
        licence = published.get("licence", "research, with citation")
        origin = {"dataset": dataset, "source": published["source"], "licence": licence}
        # file names begin with the data set's name, since numbers repeat among data sets
        train, test = (store_all(pairs, arguments.output_dir, origin, f"{dataset}_") for pairs in found[dataset])
        count = round(arguments.val_fraction * len(train))
        training, validation = hold_out(train, count, arguments.seed, published.get("block", 1))
        sections["training"] += training
        sections["validation"] += validation
        sections["test"] += test
    description = "images of colonoscopy and masks of polyps; test sets are PraNet's"
    write_datalist(arguments.output_dir, "polyps", description, sections)


if __name__ == "__main__":
    run(main)
