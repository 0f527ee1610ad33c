#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Check a data set before training on it. It finds unreadable files, empty masks, tiny lesions, masks that cover the
whole image, classes that never occur, several colour modes, and duplicates or near duplicates of images, within a split
and across splits. For volumes it also finds labels that do not lie on their image, and several spacings, orientations
and numbers of channels.

    python scripts/check_data.py --dataset_dir data/polyp --output_dir output/check

writes report.html, which shows pairs of each split and the images in question, and report.json. Errors are data that
training refuses, and images that are in two splits. The exit status is 1 if there is an error. All other findings are
warnings.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common.command import new_parser, run
from common.facts import Facts, add_data_options, gather, reading_of
from common.pages import render, thumbnail_uri
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetv2_monai.core.files import write_atomic
from unetv2_monai.core.listing import is_volume
from unetv2_monai.core.overlay import MASK_COLOR, boxed, outlined
from unetv2_monai.data.checks import read_mask
from unetv2_monai.data.pictures import picture

BLOCK = 512  # images that are compared with all others at a time, so that memory stays small
TINY, MOST, FULL = 0.001, 0.6, 0.95  # shares of the image
FRAMED = 0.9  # of the image; a smaller picture has a wide border
LEAST_CONTRAST = 26  # of 255
DUPLICATES = (
    "same image twice in a split", "same image in two splits",
    "nearly the same image twice in a split", "nearly the same image in two splits",
)  # fmt: skip
MOST_NAMED = 3  # images of a split in a group of duplicates
MOST_SHOWN = 12  # thumbnails of a finding, and of a split
MOST_PRINTED = 10  # entries of an error
MEANINGS: dict[str, str] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
ERRORS = {kind for kind, meaning in MEANINGS.items() if meaning.startswith("error")}

Entry = tuple[list[str], list[Facts]]  # of a finding: the texts of its line, and the pairs to show with it


def find_all(facts: Sequence[Facts], most_different: int, out_channels: int) -> dict[str, list[Entry]]:
    """Return the findings in the pairs that training accepts, as a dict from kind to entries."""
    found = find_duplicates(facts, most_different) if facts else {}
    found["class that never occurs"] = [([name], []) for name in missing_classes(facts, out_channels)]
    flat = [fact for fact in facts if not is_volume(fact.image)]  # volumes are not resized
    for kind, text, chosen in (
        ("hardly any contrast", "{0.lesion:.2%}", [fact for fact in flat if fact.contrast < LEAST_CONTRAST]),
        ("grey values with a window", "{0.window[0]:.4g} to {0.window[1]:.4g}", [fact for fact in flat if fact.window]),
        ("image that its EXIF turns", "{0.lesion:.2%}", [fact for fact in flat if fact.turned]),
        ("wide dark border", "{0.seen:.0%} is picture", [fact for fact in flat if fact.seen < FRAMED]),
        ("mask on the dark border", "{0.cut:.1%} of the lesion", [fact for fact in flat if fact.lesion and fact.cut]),
        ("empty mask", "{0.lesion:.2%}", [fact for fact in facts if fact.lesion == 0]),
        ("tiny lesion", "{0.lesion:.2%}", [fact for fact in flat if 0 < fact.lesion < TINY]),
        ("mask covers the image", "{0.lesion:.2%}", [fact for fact in facts if fact.lesion > FULL]),
    ):
        found[kind] = [([fact.name, text.format(fact)], [fact]) for fact in chosen]
    if flat and (median := float(np.median([fact.lesion for fact in flat]))) > MOST:
        found["masks cover most of most images"] = [([f"median {median:.0%}"], flat[:1])]
    for kind in facts[0].traits if facts else ():
        counts = Counter(fact.traits[kind] for fact in facts).most_common()
        examples = {fact.traits[kind]: fact for fact in facts}
        if len(counts) > 1:
            found[kind] = [([value, str(count)], [examples[value]]) for value, count in counts]
    return found


def find_duplicates(facts: Sequence[Facts], most_different: int) -> dict[str, list[Entry]]:
    """Group images that are equal or nearly equal. A group is one entry, since all frames of a video may be similar.
    Two images are nearly equal if at most ``most_different`` of their 256 bits differ. Such pairs connect a group.
    """
    signs = np.where([fact.bits for fact in facts], 1, -1).astype(np.float32)
    digests, splits = np.array([(fact.sha256, fact.split) for fact in facts]).T
    every = np.arange(len(facts))
    groups: dict[str, np.ndarray] = {}  # kind -> for each image, the index of the first one of its group
    for start in range(0, len(facts), BLOCK):
        rows = every[start : start + BLOCK, None]
        # a product of signs is 1 where bits agree, and -1 where they differ
        near = (signs[rows[:, 0]] @ signs.T >= signs.shape[1] - 2 * most_different) & (rows < every)
        kinds = 2 * (digests[rows] != digests) + (splits[rows] != splits)
        for number, kind in enumerate(DUPLICATES):
            ones, others = np.nonzero(near & (kinds == number))
            if len(ones):
                groups[kind] = joined(groups.get(kind, every), ones + start, others)
    return {kind: name_groups(facts, firsts) for kind, firsts in groups.items()}


def joined(firsts: np.ndarray, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Join the groups of ``ones[i]`` and ``others[i]`` for every i; return for each image the first of its group."""
    count = len(firsts)
    ends = np.append(ones, np.arange(count)), np.append(others, firsts)
    # int32, since SciPy 1.11 gives -9999 for others
    edges = coo_array((np.ones(len(ends[0])), tuple(end.astype(np.int32) for end in ends)), (count, count))
    _, labels = connected_components(edges, directed=False)
    _, first_of_label = np.unique(labels, return_index=True)
    return first_of_label[labels]


def name_groups(facts: Sequence[Facts], firsts: np.ndarray) -> list[Entry]:
    """Name the first few images of every split in each group, and how many more there are."""
    entries: list[Entry] = []
    for first in np.flatnonzero(np.bincount(firsts) > 1):
        members = [facts[int(index)] for index in np.flatnonzero(firsts == first)]
        named: list[Facts] = []
        for split in dict.fromkeys(fact.split for fact in members):
            named += [fact for fact in members if fact.split == split][:MOST_NAMED]
        more = [f"and {len(members) - len(named)} more"] if len(members) > len(named) else []
        entries.append(([*(fact.name for fact in named), *more], named))
    return entries


def missing_classes(facts: Sequence[Facts], out_channels: int) -> list[str]:
    """Return, for each split, the classes that none of its masks has."""
    names = []
    for split in dict.fromkeys(fact.split for fact in facts):
        values = frozenset().union(*(fact.values for fact in facts if fact.split == split))
        names += [f"{split}: class {one}" for one in range(1, max(out_channels, 2)) if one not in values]
    return names


def summarise(facts: Sequence[Facts]) -> dict[str, str]:
    """Return one split's row of the table, as a dict from column title to cell."""
    sizes = sorted((fact.size for fact in facts), key=np.prod)
    smallest, largest = (" x ".join(map(str, size)) for size in (sizes[0], sizes[-1]))
    row = {"split": facts[0].split, "pairs": str(len(facts)), "smallest": smallest, "largest": largest}
    row["lesion, median"] = f"{np.median([fact.lesion for fact in facts]):.1%}"
    row["values"] = ", ".join(map(str, sorted(frozenset().union(*(fact.values for fact in facts)))))
    if is_volume(facts[0].image):
        median = np.median([fact.spacing for fact in facts], axis=0)
        row["spacing in mm, median"] = " x ".join(f"{size:.3g}" for size in median)
        row["orientation"] = ", ".join(sorted({fact.traits["several orientations"] for fact in facts}))
    return row


def spread(facts: Sequence[Facts]) -> list[Facts]:
    """Choose up to ``MOST_SHOWN`` pairs at equal distances."""
    count = min(len(facts), MOST_SHOWN)
    return [facts[index * len(facts) // count] for index in range(count)]


def thumbnail(facts: Facts, reading: Mapping[str, Any]) -> dict[str, str]:
    """Draw a thumbnail of the image, or of three slices of the volume, with the outline of the mask."""
    image, (mask,) = picture(facts.image, read_mask(facts.labels, reading) > 0)
    drawn = outlined(image, mask, MASK_COLOR)
    uri = thumbnail_uri(Image.fromarray(boxed(drawn, facts.view) if facts.view else drawn), (200, 480))
    return {"name": f"{facts.split}: {Path(facts.image).name}", "uri": uri}


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for report.html and report.json")
    parser.add_argument("--near", type=int, default=32, help="bits of 256 that near duplicates differ in (default: 32)")
    arguments = parser.parse_args(argv)
    out_channels, reading = arguments.out_channels, reading_of(arguments)

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lists, facts, problems = gather(arguments, "Checking data")
    found = find_all(facts, arguments.near, out_channels)
    found["refused"] = [([problem], []) for problem in problems]
    found = {kind: found[kind] for kind in MEANINGS if found.get(kind)}
    entries = {kind: [entry for entry, _ in some] for kind, some in found.items()}
    shown = {kind: [fact for _, example in some for fact in example] for kind, some in found.items()}

    by_split = list(filter(None, ([fact for fact in facts if fact.split == split] for split in lists)))
    summaries = [summarise(some) for some in by_split]
    header = list(summaries[0]) if summaries else []
    rows = [list(summary.values()) for summary in summaries]
    report = {"dataset_dir": arguments.dataset_dir, "splits": [header, *rows], "findings": entries}
    write_atomic(arguments.output_dir / "report.json", json.dumps(report, indent=1) + "\n")
    page = render(
        "check_data.html.j2",
        title=f"Data check of {arguments.dataset_dir}",
        header=header,
        rows=rows,
        meanings=MEANINGS,
        findings=entries,
        examples={
            f"{some[0].split}: {len(chosen)} of {len(some)} pairs": [thumbnail(one, reading) for one in chosen]
            for some, chosen in zip(by_split, map(spread, by_split))
        },
        pictures={kind: [thumbnail(fact, reading) for fact in some[:MOST_SHOWN]] for kind, some in shown.items()},
    )
    write_atomic(arguments.output_dir / "report.html", page)

    for row in (header, *rows):
        print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for kind, some in entries.items():
        print(f"{len(some)} x {kind} ({MEANINGS[kind]})")
        if kind in ERRORS:
            print(*(f"  {', '.join(entry)}" for entry in some[:MOST_PRINTED]), sep="\n")
            if more := len(some[MOST_PRINTED:]):
                print(f"  and {more} more, in the report")
    print(f"report: {arguments.output_dir / 'report.html'}")
    if ERRORS & found.keys():
        sys.exit(1)


if __name__ == "__main__":
    run(main)
