#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make a data set of the skin lesions of ISIC 2017 or 2018, task 1: images/, masks/ and datalist.json with the split,
the source, the licence and the SHA-256 of every file. Name the folder that holds the challenge's unpacked folders.

    python scripts/prepare_isic.py ISIC2017 --year 2017 --split paper --output_dir data/isic2017

--split official keeps the challenge's training, validation and test images. --split paper pools its training and
validation images, chooses 7 of 10 at random for training and 3 of 10 for testing, and holds out a tenth of the training
pairs for validation. Papers split in this way (U-Net v2, EGE-UNet and others), but have not published their splits.

Run it again at any time: it continues where it was stopped, and restores files that were changed.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from common.command import new_parser, run
from common.datasets import hold_out, match_pairs, store_all, write_datalist

from unetv2_monai import InputError

YEARS: dict[int, dict[str, str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
PAPER_TRAINING = {2150: 1500, 2694: 1886}  # all pairs -> training pairs, if the data is complete; else 7 of 10


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("source", type=Path, help="the folder with the unpacked ISIC folders")
    parser.add_argument("--year", type=int, choices=sorted(YEARS), required=True)
    parser.add_argument("--split", choices=("official", "paper"), default="official", help="default: official")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the data set is made")
    parser.add_argument("--seed", type=int, default=0, help="seed of the paper's split (default: 0)")
    arguments = parser.parse_args(argv)
    source, year, output_dir, seed = arguments.source, arguments.year, arguments.output_dir, arguments.seed
    if not source.is_dir():
        raise InputError(f"{source} does not exist.")

    # everything is found before anything is written
    found = {}
    for section in ("training", "validation", "test"):
        part = "Test_v2" if (year, section) == (2017, "test") else section.capitalize()
        images, masks = (YEARS[year][kind].format(part) for kind in ("images", "masks"))
        wanted = section != "test" or arguments.split == "official"
        if wanted and (section == "training" or (source / images).is_dir()):
            found[section] = match_pairs(source, [images], [masks])

    name = f"isic{year}"
    origin = {
        "dataset": name,
        "source": f"https://challenge.isic-archive.com/data/#{year}",
        "licence": YEARS[year]["licence"],
    }
    sections = {section: store_all(pairs, output_dir, origin) for section, pairs in found.items()}
    if arguments.split == "paper":
        pool = sorted(sections["training"] + sections.get("validation", []), key=lambda entry: entry["image"])
        training = PAPER_TRAINING.get(len(pool), round(0.7 * len(pool)))
        rest, test = hold_out(pool, len(pool) - training, seed)
        training_entries, validation = hold_out(rest, round(0.1 * len(rest)), seed)
        sections = {"training": training_entries, "validation": validation, "test": test}
    description = f"ISIC {year} task 1, images of skin and masks of lesions, {arguments.split} split"
    write_datalist(output_dir, name, description, sections)


if __name__ == "__main__":
    run(main)
