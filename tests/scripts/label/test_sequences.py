# SPDX-License-Identifier: Apache-2.0
"""
Numbers of docs/how-to/label.md about the frames of CVC-ClinicDB, printed by
``pytest -s -m slow tests/scripts/label/test_sequences.py``: what a corrected mask that is carried over brings on other
frames, and how many pointer events a correction takes.
"""

import json
import math
import os
import shutil
import subprocess
import time
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetv2_monai import UNetV2
from unetv2_monai.metrics import mask_dice as dice

from .support import app_module

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: make label-env")
pytest.importorskip("monailabel")
carry = app_module("carry", pytest.MonkeyPatch())
DATA = os.environ.get("UNETV2_TEST_DATA", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA, reason="UNETV2_TEST_DATA names no folder")]
# numbers of the first frames of the sequences of CVC-ClinicDB, and one behind the last frame
FIRST = [
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448, 467, 479,
    504, 529, 547, 572, 592, 613,
]  # fmt: skip
EVERY = 10  # frames from one corrected mask to the next


@pytest.fixture(scope="module")
def frames() -> dict[int, dict]:
    """Of each frame by its number: grey values, true mask, chances by the shipped weights, which never saw one."""
    network, found, seconds = UNetV2.from_pretrained("polyps"), {}, []
    folder = Path(DATA) / "polyp"
    paths = [*folder.glob("train/images/clinicdb_*"), *folder.glob("test/clinicdb/images/*")]
    for path in paths:
        start = time.process_time()
        chance = np.asarray(network.predict(str(path))[1], np.float32).reshape(288, 384)
        seconds.append(time.process_time() - start)
        with Image.open(path) as image, Image.open(next((path.parents[1] / "masks").glob(f"{path.stem}.*"))) as mask:
            values = {"grey": np.asarray(image.convert("L")), "mask": np.asarray(mask.convert("L")) > 127}
            values |= {"rgb": np.asarray(image.convert("RGB")), "chance": chance}
        found[int(path.stem.split("_")[-1])] = values | {"chances": np.stack([1 - chance, chance])}
    print(f"\nseconds of a CPU core per frame: network {np.median(seconds):.3f}")
    return found


def between(frames: dict[int, dict], half: int, both: bool) -> list[dict]:
    """The frames of every other sequence that lie behind a corrected frame, or between two, with the moved masks."""
    found, seconds = [], []
    for first, end in [*pairwise(FIRST)][half::2]:
        for number in range(first, end):
            at = (number - first) % EVERY
            before, after = number - at, number - at + EVERY
            if at == 0 or (both and after >= end):
                continue
            keys = {before: 1 - at / EVERY, after: at / EVERY} if both else {before: 1}
            start = time.process_time()
            sides = [moved(frames[key], frames[number], weight) for key, weight in keys.items()]
            seconds.append((time.process_time() - start) / len(keys))
            still = sum(weight * carry.depth(frames[key]["mask"]) for key, weight in keys.items())
            distance = min(at, EVERY - at) if both else at
            found.append(frames[number] | {"sides": sides, "still": still, "distance": distance, "sequence": first})
    print(f"flow there and back {np.median(seconds):.3f}")
    return found


def moved(key: dict, frame: dict, weight: float = 1) -> tuple:
    return carry.moved(key["grey"], key["mask"], frame["grey"], 2, weight)


def fused(frame: dict, *constants: float) -> np.ndarray:
    return carry.fused(frame["chances"], frame["sides"], *constants)[0] > 0


METHODS = {
    "mask, not moved": (lambda frame: frame["still"] > 0, [()]),
    "mask, moved by the flow": (lambda frame: sum(w * moved[1] for w, moved, _ in frame["sides"]) > 0, [()]),
    "network": (lambda frame: frame["chance"] > 0.5, [()]),
    "network + moved mask": (fused, [*product((1, 5), (1, 4), [math.inf])]),
    "network + moved mask by the flow's error": (fused, [*product((1, 2, 5), (4, 8), [2])]),
}


def interval(frames: list[dict], scores: dict[str, np.ndarray]) -> np.ndarray:
    """Of the last method's gain over the network."""
    gain, sequences = [*scores.values()][-1] - scores["network"], np.array([each["sequence"] for each in frames])
    parts = [gain[sequences == each] for each in np.unique(sequences)]
    rng = np.random.default_rng(0)
    draws = [np.concatenate([parts[at] for at in rng.integers(0, len(parts), len(parts))]).mean() for _ in range(2000)]
    return np.percentile(draws, [2.5, 97.5])


@pytest.mark.parametrize("both", [False, True])
def test_flow_does_not_beat_the_network(frames, both):
    """The scales are chosen on half of the sequences; the Dice is of the other half."""
    chosen_on, reported = (between(frames, half, both) for half in (0, 1))
    distances, scores = np.array([each["distance"] for each in reported]), {}
    for name, (method, grid) in METHODS.items():
        score = {given: np.mean([dice(method(each, *given), each["mask"]) for each in chosen_on]) for given in grid}
        best = max(score, key=lambda given: (round(score[given], 3), *given[1:]))  # dense clips need a large most
        values = np.array([dice(method(each, *best), each["mask"]) for each in reported])
        scores[name] = values
        row = [f"{values[distances == distance].mean():.3f}" for distance in ((1, 2, 5) if both else (1, 2, 5, 9))]
        print(f"| {name} | {' | '.join(row)} | {values.mean():.3f} | {best} on {score[best]:.3f}")
    print("95 % of the last row's gain, sequences drawn anew: {:.4f} to {:.4f}".format(*interval(reported, scores)))
    means = {name: values.mean() for name, values in scores.items()}
    assert means["mask, not moved"] < means["mask, moved by the flow"] < means["network"] - 0.2
    assert max(means.values()) < means["network"] + 0.02
    assert both or best == (carry.SCALE, carry.MOST, carry.SLACK)


def swept(frames: dict[int, dict], half: int, chained: bool) -> np.ndarray:
    """Of the frames behind a corrected one: whether a sweep gets there, and Dice of carried mask and of the network."""
    rows = []
    for first, end in [*pairwise(FIRST)][half::2]:
        for key in range(first, end, EVERY):
            before, going = frames[key], True
            for frame in (frames[number] for number in range(key + 1, min(key + EVERY, end))):
                mask, confidence = carry.fused(frame["chances"], [moved(before, frame)])
                before = frame | {"mask": mask > 0} if chained else before
                going = going and confidence >= carry.LIMIT
                rows.append([going, *(dice(found > 0, frame["mask"]) for found in (mask, frame["chance"] > 0.5))])
    return np.array(rows)


def test_sweeps_stop_at_cuts(frames):
    """The limit is the lowest multiple of 0.05 that 95 % of the cuts do not reach, on the half that chose all else."""
    for half in (0, 1):
        ends = [end for _, end in [*pairwise(FIRST)][half::2] if end in frames]
        cuts = [
            carry.fused(frames[end]["chances"], [moved(frames[end - back], frames[end])])[1]
            for end, back in product(ends, range(1, 6))
        ]
        passed = {limit: np.mean(np.array(cuts) >= limit) for limit in np.arange(1, 20) / 20}
        print(f"half {half}: {passed[carry.LIMIT]:.3f} of the cuts pass")
        assert half == 1 or min(limit for limit, share in passed.items() if share < 0.05) == carry.LIMIT
    for chained in (False, True):
        rows = swept(frames, 1, chained)
        got = rows[:, 0] > 0
        print(
            "frame to frame:" if chained else "from the key:", f"Dice, network {rows[:, 1:].mean(0).round(4)};", end=" "
        )
        print(f"{got.mean():.2f} reached, there {rows[got, 1:].mean(0).round(3)}; all with the stop", end=" ")
        print(np.where(got, rows[:, 1], rows[:, 2]).mean().round(4))


def shifted(image: np.ndarray, time: int) -> np.ndarray:
    """A synthetic later frame: moved, turned, enlarged and bent a little more with each of the frames between."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width), np.float32)
    unit, bend = width / 384, 0.4 * time * width / 384
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 0.6 * time, 1 + 0.004 * time)
    turn[:, 2] += np.array([2.5, -1.5]) * time * unit
    bent = cv2.remap(image, x + bend * np.sin(y / 30 / unit), y + bend * np.cos(x / 40 / unit), cv2.INTER_LINEAR)
    return cv2.warpAffine(bent, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("size", [(384, 288), (1280, 720)])
def test_synthetic_dense_clips(frames, size):
    """One real frame of each reported sequence, and 9 synthetic ones behind it, with noise."""
    network, rng, rows, seconds = UNetV2.from_pretrained("polyps"), np.random.default_rng(0), [], []
    for first in FIRST[1:-1:2]:
        image, mask = (cv2.resize(np.uint8(frames[first][name]), size) for name in ("rgb", "mask"))
        key = {"grey": cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), "mask": mask > 0}
        for distance in (1, 5, 9):
            later = (shifted(image, distance) + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
            truth, chance = shifted(mask, distance) > 0, network.predict(later)[1].reshape(size[::-1])
            start = time.process_time()
            grey = cv2.cvtColor(later, cv2.COLOR_RGB2GRAY)
            found, confidence = carry.fused(np.stack([1 - chance, chance]), [moved(key, {"grey": grey})])
            seconds.append(time.process_time() - start)
            rows.append([distance, dice(found > 0, truth), dice(chance > 0.5, truth), confidence])
    rows = np.array(rows)
    print(f"synthetic, {size}: {np.median(seconds):.3f} s of a CPU core per frame, {len(rows) // 3} clips")
    for distance in (1, 5, 9):
        print(distance, "carried, network, confidence", rows[rows[:, 0] == distance, 1:].mean(0).round(3))
    assert rows[:, 1].mean() > rows[:, 2].mean() + 0.15


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_tool_grow_saves_pointer_events(frames, tmp_path):
    """On every fifth frame of the sequences that the tool's weights were not chosen on, if its Dice is below 0.95."""
    file = tmp_path / "frames"
    with file.open("wb") as opened:
        for first, end in [*pairwise(FIRST)][1::2]:
            for frame in (frames[number] for number in range(first, end) if number % 5 == 1):
                if dice(frame["chance"] > 0.5, frame["mask"]) < 0.95:
                    for part in (frame["rgb"], (255 * frame["chance"]).round(), frame["mask"]):
                        opened.write(np.uint8(part).tobytes())
    script = Path(__file__).parent / "page" / "strokes.js"
    printed = subprocess.run(["node", script, file, "384", "288"], capture_output=True, text=True, check=True).stdout
    print(printed)
    found = json.loads(printed)
    assert found["grow"]["events"] < 0.85 * found["brush"]["events"]
