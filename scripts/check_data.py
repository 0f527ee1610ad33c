#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Check a data set before training on it. Finds unreadable files, empty masks, masks with tiny lesions or that cover the
image, classes that never occur, several colour modes, and images that are there twice, or nearly so, within a split and
across splits. Of volumes also labels that lie elsewhere than their image, several spacings, orientations and numbers of
channels.

    python scripts/check_data.py --dataset_dir data/polyp --output_dir output/check

writes a page with the images in question, report.html, and report.json. Errors are files that training refuses and
images that are in two splits; then the exit status is 1. All else is a warning, to look at.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from checks import images, volumes
from checks.findings import KINDS, Facts, Pair, find_all
from common.command import new_parser, run
from common.pages import data_uri, render
from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError, load_datalist
from unetv2_monai.core.files import write_atomic
from unetv2_monai.core.listing import IMAGE_ENDINGS
from unetv2_monai.data import find_pairs

MOST_SHOWN = 12  # thumbnails of a finding
MOST_PRINTED = 10  # entries of an error


@dataclass(frozen=True)
class Thumbnail:
    name: str
    uri: str


def read_sections(dataset_dir: str, out_channels: int) -> dict[str, list[Pair]]:
    """The pairs of every split that there is, as training and evaluation divide them."""
    found = find_pairs(dataset_dir).keys()
    trains = bool(found & {"training", "plain"})  # then pairs for validation are held out, unless a split names them
    names = ("training", "validation", "test")
    sections = [name for name in names if name in found or (trains and name != "test")]
    lists = load_datalist(dataset_dir, sections, out_channels=out_channels, check=False)
    return {
        section: [Pair(section, item["image"], item["label"]) for item in items] for section, items in lists.items()
    }


def kind_of(pairs: Sequence[Pair]) -> ModuleType:
    """What to examine the pairs with."""
    of_images = [pair for pair in pairs if pair.image.lower().endswith(IMAGE_ENDINGS)]
    of_volumes = [pair for pair in pairs if not pair.image.lower().endswith(IMAGE_ENDINGS)]
    if of_images and of_volumes:
        raise InputError(
            f"{of_volumes[0].image} is a volume and {of_images[0].image} an image. Training takes one of the two: keep "
            "them in folders of their own."
        )
    return volumes if of_volumes else images


def encoded(pair: Pair, image: np.ndarray) -> Thumbnail:
    """As a page shows it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=80)
    return Thumbnail(f"{pair.section}: {Path(pair.image).name}", data_uri(buffer.getvalue(), "jpeg"))


def summarise(facts: Sequence[Facts]) -> dict[str, str]:
    """One split's row of the table, by the titles of its columns."""
    sizes = sorted((fact.size for fact in facts), key=np.prod)
    values = sorted(frozenset().union(*(fact.values for fact in facts)))
    smallest, largest = (" x ".join(map(str, size)) for size in (sizes[0], sizes[-1]))
    row = {"split": facts[0].pair.section, "pairs": str(len(facts)), "smallest": smallest, "largest": largest}
    row["lesion, median"] = f"{np.median([fact.lesion for fact in facts]):.1%}"
    row["values"] = ", ".join(map(str, values))
    if facts[0].spacing:
        median = np.median([fact.spacing for fact in facts], axis=0)
        row["spacing in mm, median"] = " x ".join(f"{size:.3g}" for size in median)
        row["orientation"] = ", ".join(sorted({fact.traits["several orientations"] for fact in facts}))
    return row


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", required=True, help="the data set, as for training")
    parser.add_argument("--output_dir", type=Path, required=True, help="for report.html and report.json")
    parser.add_argument("--out_channels", type=int, default=1, help="as for training (default: 1)")
    parser.add_argument("--near", type=int, default=32, help="bits of 256 that near duplicates differ in (default: 32)")
    arguments = parser.parse_args(argv)

    sections = read_sections(arguments.dataset_dir, arguments.out_channels)
    pairs = [pair for some in sections.values() for pair in some]
    kind = kind_of(pairs)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda pair: kind.examine(pair, arguments.out_channels), pairs)
        examined = list(tqdm(results, "Checking data", len(pairs), disable=None))
    facts = [result for result in examined if isinstance(result, Facts)]
    problems = [result for result in examined if isinstance(result, str)]
    findings = find_all(facts, problems, arguments.near, arguments.out_channels)

    parts = [[fact for fact in facts if fact.pair.section == section] for section in sections]
    summaries = [summarise(part) for part in parts if part]
    header = list(summaries[0]) if summaries else []
    rows = [list(summary.values()) for summary in summaries]
    report = {
        "dataset_dir": arguments.dataset_dir,
        "splits": [header, *rows],
        "findings": {name: finding.entries for name, finding in findings.items()},
    }
    write_atomic(arguments.output_dir / "report.json", json.dumps(report, indent=1) + "\n")
    page = render(
        "check_data.html.j2",
        title=f"Data check of {arguments.dataset_dir}",
        header=header,
        rows=rows,
        findings=[
            {
                "kind": name,
                "meaning": KINDS[name],
                "entries": finding.entries,
                "thumbnails": [
                    encoded(pair, kind.thumbnail(pair, arguments.out_channels)) for pair in finding.shown[:MOST_SHOWN]
                ],
            }
            for name, finding in findings.items()
        ],
    )
    write_atomic(arguments.output_dir / "report.html", page)

    for row in (header, *rows):
        print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for name, finding in findings.items():
        print(f"{len(finding.entries)} x {name} ({KINDS[name]})")
        if KINDS[name].is_error:
            print(*(f"  {', '.join(entry)}" for entry in finding.entries[:MOST_PRINTED]), sep="\n")
            if more := len(finding.entries[MOST_PRINTED:]):
                print(f"  and {more} more, in the report")
    print(f"report: {arguments.output_dir / 'report.html'}")
    if any(KINDS[name].is_error for name in findings):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
