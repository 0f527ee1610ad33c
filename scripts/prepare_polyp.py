#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make one data set of published polyp data sets: images/, masks/ and datalist.json with the split, the source, the
licence and the SHA-256 of every file. Name the folders as they are after unpacking the publishers' archives.

    python scripts/prepare_polyp.py --kvasir Kvasir-SEG --clinicdb CVC-ClinicDB --output_dir data/polyp

The split is that of the usual benchmark. Kvasir-SEG and CVC-ClinicDB: 1450 pairs to train on, 100 and 62 to test on. A
tenth of the training pairs is held out for validation; of CVC-ClinicDB in runs of 20 neighbours, since it numbers the
frames of its videos. ETIS, CVC-ColonDB and CVC-300 are test sets only. Instead of these five, --joint takes the folder
of PraNet and later papers, with TrainDataset/ and TestDataset/.

Run it again at any time: it continues where it was stopped, and restores files that were changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.command import new_parser, run
from common.datasets import Entry, Origin, Pair, find_folder, hold_out, match_pairs, store_all, write_datalist

from unetv2_monai import InputError


@dataclass(frozen=True)
class Published:
    """
    A data set as it is published.

    Args:
        images, masks: names that their folders may have.
        source: where it is published.
        licence: terms of its use.
        joint: its name in the joint folder.
        block: neighbours that are held out together. Defaults to 1.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    source: str
    licence: str
    joint: str
    block: int = 1


DATASETS = {
    "kvasir": Published(
        images=("images",),
        masks=("masks",),
        source="https://datasets.simula.no/kvasir-seg/",
        licence="research and education",
        joint="Kvasir",
    ),
    "clinicdb": Published(
        images=("Original", "PNG/Original", "TIF/Original", "images"),
        masks=("Ground Truth", "PNG/Ground Truth", "TIF/Ground Truth", "masks"),
        source="https://polyp.grand-challenge.org/CVCClinicDB/",
        licence="research, with citation",
        joint="CVC-ClinicDB",
        block=20,  # it numbers the frames of its videos in order
    ),
    "colondb": Published(
        images=("images", "CVC-ColonDB", "CVC-ColonDB/images", "Original"),
        masks=("masks", "GT", "CVC-ColonDB/masks", "Ground Truth"),
        source="http://vi.cvc.uab.es/colon-qa/cvccolondb/",
        licence="research, with citation",
        joint="CVC-ColonDB",
    ),
    "cvc300": Published(
        images=("bbdd", "CVC-300/bbdd", "images"),
        masks=("gtpolyp", "CVC-300/gtpolyp", "masks"),
        source="http://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/",
        licence="research, with citation",
        joint="CVC-300",
    ),
    "etis": Published(
        images=("ETIS-LaribPolypDB", "images", "Original"),
        masks=("Ground Truth", "GroundTruth", "masks"),
        source="https://polyp.grand-challenge.org/EtisLarib/",
        licence="research, with citation",
        joint="ETIS-LaribPolypDB",
    ),
}
TEST_NAMES = Path(__file__).parent / "common" / "polyp_test_names.txt"


def test_names() -> dict[str, set[str]]:
    """Names of the test images of Kvasir-SEG and CVC-ClinicDB."""
    names: dict[str, set[str]] = {"kvasir": set(), "clinicdb": set()}
    for line in TEST_NAMES.read_text().splitlines():
        if not line.startswith("#"):
            dataset, name = line.split()
            names[dataset].add(name)
    return names


def image_stem(mask: str) -> str:
    """ETIS and CVC-ColonDB put a p before the number of the image."""
    return mask[1:] if mask[:1] == "p" and mask[1:].isdigit() else mask


def split_separate(folders: dict[str, Path]) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Training and test pairs of data sets as their publishers ship them."""
    train, test = {}, {}
    tested = test_names()
    for dataset, root in folders.items():
        published = DATASETS[dataset]
        if not root.is_dir():
            raise InputError(f"--{dataset} {root} does not exist.")
        images, masks = find_folder(root, published.images, "images"), find_folder(root, published.masks, "masks")
        pairs = match_pairs(images, masks, image_stem)
        names = tested.get(dataset, {pair.name for pair in pairs})
        test[dataset] = [pair for pair in pairs if pair.name in names]
        train[dataset] = [pair for pair in pairs if pair.name not in names]
    return train, test


def split_joint(root: Path) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Training and test pairs of the joint folder."""

    def pairs_of(parent: Path, name: str) -> list[Pair]:
        folder = find_folder(parent, [name], "the joint data")
        images = find_folder(folder, ["images", "image"], "images")
        return match_pairs(images, find_folder(folder, ["masks", "mask"], "masks"), image_stem)

    tests = root / "TestDataset"
    test = {key: pairs_of(tests, one.joint) for key, one in DATASETS.items() if (tests / one.joint).is_dir()}
    train: dict[str, list[Pair]] = {}
    for pair in pairs_of(root, "TrainDataset"):  # Kvasir's names are words, CVC-ClinicDB's numbers
        train.setdefault("clinicdb" if pair.name.isdigit() else "kvasir", []).append(pair)
    return train, test


def store_named(dataset: str, pairs: Sequence[Pair], output_dir: Path) -> list[Entry]:
    """Put pairs into ``output_dir`` with the data set's name before their own, since numbers repeat among data sets."""
    named = [Pair(f"{dataset}_{pair.name}", pair.image, pair.mask) for pair in pairs]
    return store_all(named, output_dir, Origin(dataset, DATASETS[dataset].source, DATASETS[dataset].licence))


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    for dataset, published in DATASETS.items():
        content = f"{published.source} with {published.images[0]}/ and {published.masks[0]}/"
        parser.add_argument(f"--{dataset}", type=Path, metavar="DIR", help=content)
    parser.add_argument("--joint", type=Path, metavar="DIR", help="instead: TrainDataset/ and TestDataset/SET/")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument(
        "--val_fraction", type=float, default=0.1, help="share of training pairs held out (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the held-out pairs (default: 0)")
    arguments = parser.parse_args(argv)
    folders = {dataset: path for dataset in DATASETS if (path := getattr(arguments, dataset)) is not None}
    if bool(folders) == bool(arguments.joint):
        raise InputError(f"Name the folder of at least one data set (--{', --'.join(DATASETS)}), or --joint.")

    # everything is found before anything is written
    train, test = split_joint(arguments.joint) if arguments.joint else split_separate(folders)

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list[Entry]] = {"training": [], "validation": [], "test": []}
    for dataset in DATASETS:
        entries = store_named(dataset, train.get(dataset, []), arguments.output_dir)
        count = round(arguments.val_fraction * len(entries))
        training, validation = hold_out(entries, count, arguments.seed, DATASETS[dataset].block)
        sections["training"] += training
        sections["validation"] += validation
        sections["test"] += store_named(dataset, test.get(dataset, []), arguments.output_dir)
    description = "images of colonoscopy and masks of polyps; test sets are PraNet's"
    write_datalist(arguments.output_dir, "polyps", description, sections)


if __name__ == "__main__":
    run(main)
