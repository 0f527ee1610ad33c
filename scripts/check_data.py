#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Look at a data set before training on it: unreadable files, sizes and values, empty masks, tiny objects, colour modes,
and images that are there twice, or nearly, within a split and across splits. Writes a page with pictures, and
report.json.

Errors (files that training refuses, the same image in two splits) end with exit code 1; the rest are warnings to look
at.

    python scripts/check_data.py --dataset_dir data/polyp --output_dir output/check
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common.overlay import MASK_COLOR, outlined
from PIL import Image
from tqdm import tqdm

from unetv2_monai import InputError, load_datalist, to_mask, to_rgb
from unetv2_monai.data import IMAGE_ENDINGS as PICTURES

HASH = 16  # brightness differences between 17 x 16 fields: 256 bits
TINY = 0.001  # share of the image
SHOWN = 12
EXPLAINED = {
    "unreadable": "error: training refuses these files",
    "same image in two splits": "error: scores on one of the splits are not honest",
    "nearly the same image in two splits": "warning: frames of one video, or one patient? Scores may flatter",
    "same image twice in a split": "warning: it counts twice",
    "nearly the same image twice in a split": "warning: frames of one video, or resized copies",
    "empty mask": "warning: right for images without a lesion, a mistake otherwise",
    "tiny lesion": f"warning: less than {TINY:.1%} of the image; lost when images are resized",
    "mask covers the image": "warning: inside and outside exchanged?",
    "several colour modes": "warning: all are converted to RGB",
}


def examine(section: str, pair: dict[str, str], out_channels: int) -> dict[str, Any]:
    """What is to know of one pair; ``problem`` if it cannot be used."""
    facts: dict[str, Any] = {"section": section, **pair}
    try:
        data = Path(pair["image"]).read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            facts["mode"] = opened.mode
            image = to_rgb(opened)
        with Image.open(pair["label"]) as opened:
            mask = to_mask(opened, out_channels)
        if mask.size != image.size:
            raise InputError(f"{pair['label']}: {mask.size}, but {Path(pair['image']).name} is {image.size}")
    except InputError as error:
        return facts | {"problem": str(error)}
    except Exception as error:  # image decoders raise almost anything
        return facts | {"problem": f"{pair['image']} or its mask: cannot be read ({error})"}
    fields = np.asarray(image.convert("L").resize((HASH + 1, HASH), Image.Resampling.BOX)).astype(int)
    values, counts = np.unique(np.asarray(mask), return_counts=True)
    return facts | {
        "size": image.size,
        "sha256": hashlib.sha256(np.asarray(image).tobytes()).hexdigest(),
        "bits": (fields[:, 1:] > fields[:, :-1]).ravel(),
        "values": {int(value): int(count) for value, count in zip(values, counts)},
        "lesion": float(np.mean(np.asarray(mask) > 0)),
    }


def duplicates(facts: list[dict[str, Any]], most_different: int) -> dict[str, list[tuple[int, int]]]:
    """
    Pairs of images that are equal or nearly so, by what they are.

    Near means that at most ``most_different`` of 256 bits differ, where a bit says whether brightness rises from one
    field of a 17 x 16 grid to the next: unrelated images differ in about 128.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    bits = np.stack([fact["bits"] for fact in facts]).astype(np.float32)
    for start in range(0, len(facts), 512):  # blocks, so that memory stays small
        block = bits[start : start + 512]
        different = block @ (1 - bits.T) + (1 - block) @ bits.T
        for row, column in np.argwhere(different <= most_different):
            first, second = start + int(row), int(column)
            if first >= second:
                continue
            same = facts[first]["sha256"] == facts[second]["sha256"]
            across = facts[first]["section"] != facts[second]["section"]
            kind = ("same image" if same else "nearly the same image") + (
                " in two splits" if across else " twice in a split"
            )
            found.setdefault(kind, []).append((first, second))
    return found


def thumbnail(fact: dict[str, Any], out_channels: int) -> str:
    """An HTML picture of an image with the outline of its mask."""
    with Image.open(fact["image"]) as opened:
        image = to_rgb(opened)
    with Image.open(fact["label"]) as opened:
        mask = to_mask(opened, out_channels)
    image.thumbnail((200, 160))
    shown = outlined(np.asarray(image), np.asarray(mask.resize(image.size)) > 0, MASK_COLOR)
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "JPEG", quality=80)
    name = html.escape(f"{fact['section']}: {Path(fact['image']).name}")
    return f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="{name}">\
<figcaption>{name}</figcaption></figure>'


STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 66em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
td { border: 1px solid #ccc; padding: .2em .7em }
tr:first-child { font-weight: bold }
figure { display: inline-block; margin: .3em }
figcaption { font-size: 11px; max-width: 200px; overflow-wrap: anywhere }
"""


def page(title: str, summary: list[list[str]], findings: dict[str, list[Any]], pictures: dict[str, str]) -> str:
    """The report as one HTML file without anything outside of it."""
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in summary)
    parts = []
    for kind, entries in findings.items():
        names = "".join(f"<li>{html.escape(', '.join(entry))}</li>" for entry in entries)
        parts += [f"<h2>{html.escape(kind)}: {len(entries)}</h2><p>{html.escape(EXPLAINED[kind])}</p>"]
        parts += [pictures.get(kind, ""), f"<details><summary>all</summary><ul>{names}</ul></details>"]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = f"<h1>{html.escape(title)}</h1><table>{rows}</table>{''.join(parts) or '<p>Nothing was found.</p>'}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="the data set, as for training")
    parser.add_argument("--output_dir", type=Path, required=True, help="for report.html and report.json")
    parser.add_argument("--out_channels", type=int, default=1, help="as for training (default: 1)")
    parser.add_argument("--near", type=int, default=32, help="bits of 256 that near duplicates differ in (default: 32)")
    options = parser.parse_args(arguments)

    lists: dict[str, list[dict[str, str]]] = {}
    for sections in (["training", "validation"], ["test"]):
        try:
            lists |= load_datalist(options.dataset_dir, sections, out_channels=options.out_channels, check=False)
        except InputError as error:
            if f"has no {sections[0]} pairs" not in str(error):
                raise
    if {"training", "test"} <= lists.keys():
        try:
            load_datalist(options.dataset_dir, ["training", "test"], out_channels=options.out_channels, check=False)
        except InputError:  # a plain folder is all training or all test, not both
            lists.pop("test")
    jobs = [(section, pair) for section, pairs in lists.items() for pair in pairs]
    for _, pair in jobs:
        if not pair["image"].lower().endswith(PICTURES):
            raise InputError(f"{pair['image']} is no picture. Volumes are checked by training itself (check_data).")
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda job: examine(*job, options.out_channels), jobs)
        everything = list(tqdm(results, "Checking data", len(jobs), disable=None))
    facts = [fact for fact in everything if "problem" not in fact]

    def name(fact: dict[str, Any]) -> str:
        return f"{fact['section']}: {fact['image']}"

    chosen = {
        "empty mask": [fact for fact in facts if fact["lesion"] == 0],
        "tiny lesion": [fact for fact in facts if 0 < fact["lesion"] < TINY],
        "mask covers the image": [fact for fact in facts if fact["lesion"] > 0.95],
    }
    twins = duplicates(facts, options.near) if facts else {}
    findings: dict[str, list[Any]] = {"unreadable": [[fact["problem"]] for fact in everything if "problem" in fact]}
    findings |= {kind: [[name(facts[index]) for index in pair] for pair in pairs] for kind, pairs in twins.items()}
    findings |= {kind: [[name(fact), f"{fact['lesion']:.2%}"] for fact in some] for kind, some in chosen.items()}
    modes = Counter(fact["mode"] for fact in facts)
    if len(modes) > 1:
        findings["several colour modes"] = [[mode, str(count)] for mode, count in modes.most_common()]
    findings = {kind: findings[kind] for kind in EXPLAINED if findings.get(kind)}
    pictures = {kind: [fact for pair in pairs[: SHOWN // 2] for fact in (facts[pair[0]], facts[pair[1]])]
                for kind, pairs in twins.items()} | chosen  # fmt: skip
    drawn = {kind: "".join(thumbnail(fact, options.out_channels) for fact in some[:SHOWN])
             for kind, some in pictures.items()}  # fmt: skip

    summary = [["split", "pairs", "smallest", "largest", "lesion, median", "values"]]
    for section in lists:
        part = [fact for fact in facts if fact["section"] == section]
        if part:
            sizes = sorted((fact["size"] for fact in part), key=lambda size: size[0] * size[1])
            values = sorted({value for fact in part for value in fact["values"]})
            summary.append([
                section, str(len(part)), "{} x {}".format(*sizes[0]), "{} x {}".format(*sizes[-1]),
                f"{np.median([fact['lesion'] for fact in part]):.1%}", ", ".join(map(str, values)),
            ])  # fmt: skip
    options.output_dir.mkdir(parents=True, exist_ok=True)
    report = {"dataset_dir": str(options.dataset_dir), "splits": summary, "findings": findings}
    (options.output_dir / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    title = f"Data check of {options.dataset_dir}"
    (options.output_dir / "report.html").write_text(page(title, summary, findings, drawn))

    for row in summary:
        print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for kind, entries in findings.items():
        print(f"{len(entries)} x {kind} ({EXPLAINED[kind]})")
    print(f"report: {options.output_dir / 'report.html'}")
    if any(EXPLAINED[kind].startswith("error") for kind in findings):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
