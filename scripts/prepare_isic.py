#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make a data set of the skin lesions of ISIC 2017 or 2018, task 1: images/, masks/ and datalist.json with the split, the
source, the licence and the SHA-256 of every file. Name the folder that holds the challenge's unpacked folders.

    python scripts/prepare_isic.py ISIC2017 --year 2017 --split paper --output_dir data/isic2017

--split official keeps the challenge's training, validation and test images. --split paper pools its training and
validation images, draws 7 of 10 to train on and 3 of 10 to test on, and holds out a tenth of the training pairs for
validation. Papers split in this way (U-Net v2, EGE-UNet and others), but have not published their own draws.

Run it again at any time: it continues where it was stopped, and restores files that were changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.command import new_parser, run
from common.datasets import Entry, Origin, find_folder, hold_out, match_pairs, store_all, write_datalist

from unetv2_monai import InputError


@dataclass(frozen=True)
class Folders:
    """Where the challenge has the images and the masks of one section."""

    images: str
    masks: str


FOLDERS = {
    2017: {
        "training": Folders("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "validation": Folders("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": Folders("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    },
    2018: {
        "training": Folders("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "validation": Folders("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        "test": Folders("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    },
}
ORIGINS = {
    2017: Origin("isic2017", "https://challenge.isic-archive.com/data/#2017", "CC0"),
    2018: Origin("isic2018", "https://challenge.isic-archive.com/data/#2018", "CC BY-NC 4.0"),
}
PAPER_TRAINING = {2150: 1500, 2694: 1886}  # pairs in all -> to train on, where the data is complete; else 7 of 10


def image_stem(mask: str) -> str:
    return mask.removesuffix("_segmentation")


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("source", type=Path, help="the folder with the unpacked ISIC folders")
    parser.add_argument("--year", type=int, choices=sorted(FOLDERS), required=True)
    parser.add_argument("--split", choices=("official", "paper"), default="official", help="default: official")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument("--seed", type=int, default=0, help="draws the paper's split (default: 0)")
    arguments = parser.parse_args(argv)
    if not arguments.source.is_dir():
        raise InputError(f"{arguments.source} does not exist.")

    # everything is found before anything is written
    found = {}
    for section, names in FOLDERS[arguments.year].items():
        if section == "training" or (arguments.source / names.images).is_dir():
            images = find_folder(arguments.source, [names.images], "images")
            masks = find_folder(arguments.source, [names.masks], "masks")
            found[section] = match_pairs(images, masks, image_stem)
    if arguments.split == "paper":
        found.pop("test", None)

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    origin = ORIGINS[arguments.year]
    sections: dict[str, list[Entry]] = {"training": [], "validation": [], "test": []}
    for section, pairs in found.items():
        sections[section] = store_all(pairs, arguments.output_dir, origin)
    if arguments.split == "paper":
        pool = sorted(sections["training"] + sections["validation"], key=lambda entry: entry["image"])
        training = PAPER_TRAINING.get(len(pool), round(0.7 * len(pool)))
        rest, sections["test"] = hold_out(pool, len(pool) - training, arguments.seed)
        sections["training"], sections["validation"] = hold_out(rest, round(0.1 * len(rest)), arguments.seed)
    description = f"ISIC {arguments.year} task 1, images of skin and masks of lesions, {arguments.split} split"
    write_datalist(arguments.output_dir, origin.dataset, description, sections)


if __name__ == "__main__":
    run(main)
