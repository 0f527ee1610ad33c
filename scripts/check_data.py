#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Check a data set before training on it. Finds unreadable files, empty masks, masks with tiny lesions or that cover the
image, several colour modes, and images that are there twice, or nearly so, within a split and across splits.

    python scripts/check_data.py --dataset_dir data/polyp --output_dir output/check

writes a page with the images in question, report.html, and report.json. Errors are files that training refuses and
images that are in two splits; then the exit status is 1. All else is a warning, to look at.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from common.command import new_parser, run
from common.overlay import MASK_COLOR, outlined
from common.pages import data_uri, render
from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError, load_datalist, to_mask, to_rgb
from unetv2_monai.data import IMAGE_ENDINGS, find_pairs
from unetv2_monai.files import write_atomic

GRID = 16  # brightness differences between 17 x 16 fields: 256 bits
TINY, FULL = 0.001, 0.95  # shares of the image
MOST_SHOWN = 12  # thumbnails of a finding


@dataclass(frozen=True)
class Kind:
    """What a finding means; an error, or something to look at."""

    meaning: str
    is_error: bool = False

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'warning'}: {self.meaning}"


KINDS = {
    "unreadable": Kind("training refuses these files", is_error=True),
    "same image in two splits": Kind("scores on one of the splits are not honest", is_error=True),
    "nearly the same image in two splits": Kind("frames of one video, or one patient? Scores may flatter"),
    "same image twice in a split": Kind("it counts twice"),
    "nearly the same image twice in a split": Kind("frames of one video, or resized copies"),
    "empty mask": Kind("right for images without a lesion, a mistake otherwise"),
    "tiny lesion": Kind(f"less than {TINY:.1%} of the image; lost when images are resized"),
    "mask covers the image": Kind("inside and outside exchanged?"),
    "several colour modes": Kind("all are converted to RGB"),
}


@dataclass(frozen=True)
class Pair:
    """An image and its mask in one split of the data set."""

    section: str
    image: str
    label: str

    @property
    def name(self) -> str:
        return f"{self.section}: {self.image}"

    def read(self, out_channels: int) -> tuple[Image.Image, Image.Image]:
        """The image in RGB and the mask in class indices, as training reads them."""
        with Image.open(self.image) as opened:
            image = to_rgb(opened)
        with Image.open(self.label) as opened:
            mask = to_mask(opened, out_channels)
        if mask.size != image.size:
            raise InputError(f"{self.label}: {mask.size}, but {Path(self.image).name} is {image.size}")
        return image, mask


@dataclass(frozen=True)
class Facts:
    """
    What is known of one pair.

    Args:
        pair: the files.
        mode: colour mode of the image file.
        size: width and height in pixels.
        sha256: of the image's pixels.
        bits: 256 booleans: whether brightness rises from one field of a 17 x 16 grid to the next.
        values: in the mask.
        lesion: share of the image that is not background.
    """

    pair: Pair
    mode: str
    size: tuple[int, int]
    sha256: str
    bits: np.ndarray
    values: frozenset[int]
    lesion: float


@dataclass(frozen=True)
class Thumbnail:
    name: str
    uri: str


@dataclass
class Finding:
    """All entries of one kind: names, each with what belongs to it; and pairs to show."""

    entries: list[list[str]] = field(default_factory=list)
    shown: list[Pair] = field(default_factory=list)


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


def examine(pair: Pair, out_channels: int) -> Facts | str:
    """The facts of one pair, or why it cannot be used."""
    try:
        with Image.open(pair.image) as opened:
            mode = opened.mode
        image, mask = pair.read(out_channels)
    except InputError as error:
        return str(error)
    except Exception as error:  # image decoders raise almost anything
        return f"{pair.image} or its mask: cannot be read ({error})"
    fields = np.asarray(image.convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX)).astype(int)
    values = np.asarray(mask)
    return Facts(
        pair=pair,
        mode=mode,
        size=image.size,
        sha256=hashlib.sha256(np.asarray(image).tobytes()).hexdigest(),
        bits=(fields[:, 1:] > fields[:, :-1]).ravel(),
        values=frozenset(map(int, np.unique(values))),
        lesion=float(np.mean(values > 0)),
    )


def find_duplicates(facts: Sequence[Facts], most_different: int) -> dict[str, Finding]:
    """
    Pairs of images that are equal or nearly so.

    Nearly means that at most ``most_different`` of their 256 bits differ; of unrelated images about 128 differ.
    """
    found: dict[str, Finding] = {}
    bits = np.stack([fact.bits for fact in facts]).astype(np.float32)
    for start in range(0, len(facts), 512):  # blocks, so that memory stays small
        block = bits[start : start + 512]
        different = block @ (1 - bits.T) + (1 - block) @ bits.T
        for row, column in np.argwhere(different <= most_different):
            if start + row >= column:
                continue
            first, second = facts[start + row], facts[column]
            same = "same image" if first.sha256 == second.sha256 else "nearly the same image"
            where = "twice in a split" if first.pair.section == second.pair.section else "in two splits"
            finding = found.setdefault(f"{same} {where}", Finding())
            finding.entries.append([first.pair.name, second.pair.name])
            finding.shown += [first.pair, second.pair]
    return found


def find_all(facts: Sequence[Facts], problems: Sequence[str], most_different: int) -> dict[str, Finding]:
    """Findings by their kind, in the order of ``KINDS``."""
    found = {"unreadable": Finding([[problem] for problem in problems])}
    found |= find_duplicates(facts, most_different) if facts else {}
    for kind, chosen in (
        ("empty mask", [fact for fact in facts if fact.lesion == 0]),
        ("tiny lesion", [fact for fact in facts if 0 < fact.lesion < TINY]),
        ("mask covers the image", [fact for fact in facts if fact.lesion > FULL]),
    ):
        entries = [[fact.pair.name, f"{fact.lesion:.2%}"] for fact in chosen]
        found[kind] = Finding(entries, [fact.pair for fact in chosen])
    modes = Counter(fact.mode for fact in facts)
    if len(modes) > 1:
        found["several colour modes"] = Finding([[mode, str(count)] for mode, count in modes.most_common()])
    return {kind: found[kind] for kind in KINDS if kind in found and found[kind].entries}


def thumbnail(pair: Pair, out_channels: int) -> Thumbnail:
    """A small image with the outline of its mask."""
    image, mask = pair.read(out_channels)
    image.thumbnail((200, 160))
    shown = outlined(np.asarray(image), np.asarray(mask.resize(image.size)) > 0, MASK_COLOR)
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "JPEG", quality=80)
    return Thumbnail(f"{pair.section}: {Path(pair.image).name}", data_uri(buffer.getvalue(), "jpeg"))


def summarise(section: str, facts: Sequence[Facts]) -> list[str]:
    """One split's row of the table."""
    sizes = sorted((fact.size for fact in facts), key=lambda size: size[0] * size[1])
    values = sorted(frozenset().union(*(fact.values for fact in facts)))
    lesion = f"{np.median([fact.lesion for fact in facts]):.1%}"
    smallest, largest = ("{} x {}".format(*size) for size in (sizes[0], sizes[-1]))
    return [section, str(len(facts)), smallest, largest, lesion, ", ".join(map(str, values))]


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", required=True, help="the data set, as for training")
    parser.add_argument("--output_dir", type=Path, required=True, help="for report.html and report.json")
    parser.add_argument("--out_channels", type=int, default=1, help="as for training (default: 1)")
    parser.add_argument("--near", type=int, default=32, help="bits of 256 that near duplicates differ in (default: 32)")
    arguments = parser.parse_args(argv)

    sections = read_sections(arguments.dataset_dir, arguments.out_channels)
    pairs = [pair for some in sections.values() for pair in some]
    for pair in pairs:
        if not pair.image.lower().endswith(IMAGE_ENDINGS):
            raise InputError(f"{pair.image} is no picture. Volumes are checked by training itself (check_data).")
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda pair: examine(pair, arguments.out_channels), pairs)
        examined = list(tqdm(results, "Checking data", len(pairs), disable=None))
    facts = [result for result in examined if isinstance(result, Facts)]
    findings = find_all(facts, [result for result in examined if isinstance(result, str)], arguments.near)

    header = ["split", "pairs", "smallest", "largest", "lesion, median", "values"]
    rows = []
    for section in sections:
        if part := [fact for fact in facts if fact.pair.section == section]:
            rows.append(summarise(section, part))
    report = {
        "dataset_dir": arguments.dataset_dir,
        "splits": [header, *rows],
        "findings": {kind: finding.entries for kind, finding in findings.items()},
    }
    write_atomic(arguments.output_dir / "report.json", json.dumps(report, indent=1) + "\n")
    page = render(
        "check_data.html.j2",
        title=f"Data check of {arguments.dataset_dir}",
        header=header,
        rows=rows,
        findings=[
            {
                "kind": kind,
                "meaning": KINDS[kind],
                "entries": finding.entries,
                "thumbnails": [thumbnail(pair, arguments.out_channels) for pair in finding.shown[:MOST_SHOWN]],
            }
            for kind, finding in findings.items()
        ],
    )
    write_atomic(arguments.output_dir / "report.html", page)

    for row in (header, *rows):
        print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for kind, finding in findings.items():
        print(f"{len(finding.entries)} x {kind} ({KINDS[kind]})")
    print(f"report: {arguments.output_dir / 'report.html'}")
    if any(KINDS[kind].is_error for kind in findings):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
