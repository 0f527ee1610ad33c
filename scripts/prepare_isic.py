#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make one data set of the skin lesions of ISIC 2017 or 2018, task 1, unpacked as the challenge ships them: images/,
masks/ and datalist.json with split, source, licence and SHA-256 of every file.

--split official keeps the challenge's training, validation and test images. --split paper pools its training and
validation images and draws 7 of 10 to train on and 3 of 10 to test on, as the papers do (U-Net v2, EGE-UNet and others;
their own draws are not published), and holds out a tenth of the training pairs for validation.

Run it again at any time: it goes on where it was stopped, and mends what was changed.

    python scripts/prepare_isic.py ISIC2017 --year 2017 --split paper --output_dir data/isic2017
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prepare import folder_of, hold_out, pairs_of, place_all, write_datalist

from unetv2_monai import InputError

FOLDERS = {
    2017: {
        "training": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "validation": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    },
    2018: {
        "training": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "validation": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        "test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    },
}
SOURCES = {
    2017: ("https://challenge.isic-archive.com/data/#2017", "CC0"),
    2018: ("https://challenge.isic-archive.com/data/#2018", "CC BY-NC 4.0"),
}
PAPER_TRAINING = {2150: 1500, 2694: 1886}  # complete data; otherwise 7 of 10


def mask_stem(stem: str) -> str:
    return stem.removesuffix("_segmentation")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder with the unpacked ISIC folders")
    parser.add_argument("--year", type=int, choices=sorted(FOLDERS), required=True)
    parser.add_argument("--split", choices=("official", "paper"), default="official", help="default: official")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument("--seed", type=int, default=0, help="draws the paper's split (default: 0)")
    options = parser.parse_args(arguments)
    if not options.source.is_dir():
        raise InputError(f"{options.source} does not exist.")

    found = {}
    for section, (images, masks) in FOLDERS[options.year].items():
        if section == "training" or (options.source / images).is_dir():
            folders = folder_of(options.source, [images], "images"), folder_of(options.source, [masks], "masks")
            found[section] = list(pairs_of(*folders, mask_stem))
    if options.split == "paper":
        found.pop("test", None)

    options.output_dir.mkdir(parents=True, exist_ok=True)
    name = f"isic{options.year}"
    sections: dict[str, list] = {"training": [], "validation": [], "test": []}
    for section, pairs in found.items():
        sections[section] = place_all(pairs, options.output_dir, name, *SOURCES[options.year])
    if options.split == "paper":
        pool = sorted(sections["training"] + sections["validation"], key=lambda entry: entry["image"])
        training = PAPER_TRAINING.get(len(pool), round(0.7 * len(pool)))
        rest, sections["test"] = hold_out(pool, len(pool) - training, options.seed)
        sections["training"], sections["validation"] = hold_out(rest, round(0.1 * len(rest)), options.seed)
    description = f"ISIC {options.year} task 1, images of skin and masks of lesions, {options.split} split"
    write_datalist(options.output_dir, name, description, sections)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
