# SPDX-License-Identifier: Apache-2.0
"""From facts about each pair to findings about the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["KINDS", "Facts", "Finding", "Pair", "find_all"]

TINY, FULL = 0.001, 0.95  # shares of the image
MOST_NAMED = 3  # images of a split in a group of duplicates


@dataclass(frozen=True)
class Kind:
    """What a finding means; an error, or something to look at."""

    meaning: str
    is_error: bool = False

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'warning'}: {self.meaning}"


KINDS = {
    "refused": Kind("training refuses these files", is_error=True),
    "same image in two splits": Kind("scores on one of the splits are not honest", is_error=True),
    "several numbers of channels": Kind("training takes one, as in_channels states", is_error=True),
    "nearly the same image in two splits": Kind("frames of one video, or one patient? Scores may flatter"),
    "same image twice in a split": Kind("it counts twice"),
    "nearly the same image twice in a split": Kind("frames of one video, or resized copies"),
    "class that never occurs": Kind("it cannot be learned or scored: labels are missing, or --out_channels is wrong"),
    "empty mask": Kind("right for images without a lesion, a mistake otherwise"),
    "tiny lesion": Kind(f"less than {TINY:.1%} of the image; lost when images are resized"),
    "mask covers the image": Kind("inside and outside exchanged?"),
    "several colour modes": Kind("all are converted to RGB"),
    "several orientations": Kind("all are turned to RAS"),
    "several spacings": Kind("set --spacing of recipes/volumes.yaml, for example to the median above"),
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


@dataclass(frozen=True)
class Facts:
    """
    What is known of one pair.

    Args:
        pair: the files.
        size: width and height in pixels, or of a volume in voxels.
        sha256: of the image's pixels.
        bits: 256 booleans, of which about half differ between unrelated images.
        values: in the mask.
        lesion: share of the image that is not background.
        traits: what should be alike in all images, by the kind of the finding if it is not.
        spacing: size of a voxel in mm, from left to right, back to front and below to above; empty for images.
    """

    pair: Pair
    size: tuple[int, ...]
    sha256: str
    bits: np.ndarray
    values: frozenset[int]
    lesion: float
    traits: dict[str, str]
    spacing: tuple[float, ...] = ()


@dataclass
class Finding:
    """All entries of one kind: names, each with what belongs to it; and pairs to show."""

    entries: list[list[str]] = field(default_factory=list)
    shown: list[Pair] = field(default_factory=list)


def find_all(
    facts: Sequence[Facts], problems: Sequence[str], most_different: int, out_channels: int
) -> dict[str, Finding]:
    """
    Args:
        facts: of the pairs that can be used.
        problems: a sentence for each of the others.
        most_different: bits of 256 in which nearly equal images may differ.
        out_channels: of the network.

    Returns:
        Findings by their kind, in the order of ``KINDS``.
    """
    found = {"refused": Finding([[problem] for problem in problems])}
    found |= find_duplicates(facts, most_different) if facts else {}
    found["class that never occurs"] = Finding(missing_classes(facts, out_channels))
    images = [fact for fact in facts if not fact.spacing]
    for kind, chosen in (
        ("empty mask", [fact for fact in facts if fact.lesion == 0]),
        ("tiny lesion", [fact for fact in images if 0 < fact.lesion < TINY]),  # volumes are not resized
        ("mask covers the image", [fact for fact in facts if fact.lesion > FULL]),
    ):
        entries = [[fact.pair.name, f"{fact.lesion:.2%}"] for fact in chosen]
        found[kind] = Finding(entries, [fact.pair for fact in chosen])
    for kind in dict.fromkeys(kind for fact in facts for kind in fact.traits):
        counts = Counter(fact.traits[kind] for fact in facts)
        if len(counts) > 1:
            examples = {fact.traits[kind]: fact.pair for fact in facts}
            entries = [[value, str(count)] for value, count in counts.most_common()]
            found[kind] = Finding(entries, [examples[value] for value, _ in counts.most_common()])
    return {kind: found[kind] for kind in KINDS if kind in found and found[kind].entries}


def find_duplicates(facts: Sequence[Facts], most_different: int) -> dict[str, Finding]:
    """
    Groups of images that are equal or nearly so, an entry each: of a video every frame may be near every other one.

    Nearly means that at most ``most_different`` of their 256 bits differ; of unrelated images about 128 differ. A group
    is what is connected by such pairs.
    """
    bits = np.stack([fact.bits for fact in facts]).astype(np.float32)
    digests, sections = (
        np.unique(names, return_inverse=True)[1].ravel()
        for names in ([fact.sha256 for fact in facts], [fact.pair.section for fact in facts])
    )
    groups: dict[str, np.ndarray] = {}  # by kind: for each image the first one of its group
    for start in range(0, len(facts), 512):  # blocks, so that memory stays small
        block = bits[start : start + 512]
        different = block @ (1 - bits.T) + (1 - block) @ bits.T
        for row, near in enumerate(different <= most_different, start):
            near[: row + 1] = False
            if not near.any():
                continue
            same, within = digests == digests[row], sections == sections[row]
            for what, alike in (("same image", same), ("nearly the same image", ~same)):
                for where, chosen in (("twice in a split", alike & within), ("in two splits", alike & ~within)):
                    if (near & chosen).any():
                        firsts = groups.setdefault(f"{what} {where}", np.arange(len(facts)))
                        _join(firsts, np.append(np.flatnonzero(near & chosen), row))
    return {kind: _as_finding(facts, firsts) for kind, firsts in groups.items()}


def _join(firsts: np.ndarray, chosen: np.ndarray) -> None:
    """Make one group of those of the chosen images."""
    groups = np.unique(firsts[chosen])
    if len(groups) > 1:
        firsts[np.isin(firsts, groups)] = groups[0]


def _as_finding(facts: Sequence[Facts], firsts: np.ndarray) -> Finding:
    """Of each group the first few images of every split, and how many more there are."""
    finding = Finding()
    order = np.argsort(firsts, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(firsts[order])) + 1):
        if len(group) == 1:
            continue
        seen: Counter[str] = Counter()
        named = []
        for pair in (facts[index].pair for index in group):
            seen[pair.section] += 1
            if seen[pair.section] <= MOST_NAMED:
                named.append(pair)
        more = len(group) - len(named)
        finding.entries.append([*(pair.name for pair in named), *([f"and {more} more"] if more else [])])
        finding.shown += named
    return finding


def missing_classes(facts: Sequence[Facts], out_channels: int) -> list[list[str]]:
    """Classes that no mask of a split has."""
    entries = []
    for section in dict.fromkeys(fact.pair.section for fact in facts):
        values = frozenset().union(*(fact.values for fact in facts if fact.pair.section == section))
        entries += [[f"{section}: class {one}"] for one in range(1, max(out_channels, 2)) if one not in values]
    return entries
