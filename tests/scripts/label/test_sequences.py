# SPDX-License-Identifier: Apache-2.0
"""Numbers of docs/how-to/label.md about the frames of CVC-ClinicDB, printed by
``pytest -s -m slow tests/scripts/label/test_sequences.py``: what a corrected mask that is carried over brings on other
frames, and how many pointer events a correction takes.
"""

import json
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
    network, found = UNetV2.from_pretrained("polyps"), {}
    folder = Path(DATA) / "polyp"
    paths = [*folder.glob("train/images/clinicdb_*"), *folder.glob("test/clinicdb/images/*")]
    for path in paths:
        chance = np.asarray(network.predict(str(path))[1], np.float32).reshape(288, 384)
        with Image.open(path) as image, Image.open(next((path.parents[1] / "masks").glob(f"{path.stem}.*"))) as mask:
            values = {"grey": np.asarray(image.convert("L")), "mask": np.asarray(mask.convert("L")) > 127}
            values |= {"rgb": np.asarray(image.convert("RGB")), "chance": chance}
        found[int(path.stem.split("_")[-1])] = values | {"chances": np.stack([1 - chance, chance])}
    return found


def between(frames: dict[int, dict], half: int, both: bool) -> list[dict]:
    """The frames of every other sequence that lie behind a corrected frame, or between two, with the moved masks."""
    found = []
    for first, end in [*pairwise(FIRST)][half::2]:
        for number in range(first, end):
            at = (number - first) % EVERY
            before, after = number - at, number - at + EVERY
            if at == 0 or (both and after >= end):
                continue
            keys = {before: 1 - at / EVERY, after: at / EVERY} if both else {before: 1}
            sides = [moved(frames[key], frames[number], weight) for key, weight in keys.items()]
            distance = min(at, EVERY - at) if both else at
            found.append(frames[number] | {"sides": sides, "distance": distance, "sequence": first})
    return found


def moved(key: dict, frame: dict, weight: float = 1) -> tuple:
    return carry.moved(key["grey"], key["mask"], frame["grey"], 2, weight)


GRID = [*product((1, 2, 5), (4, 8), [2])]
METHODS = {
    "mask, moved by the flow": (lambda frame: sum(w * moved[1] for w, moved, _ in frame["sides"]) > 0, [()]),
    "network": (lambda frame: frame["chance"] > 0.5, [()]),
    "both": (lambda frame, *given: carry.fused(frame["chances"], frame["sides"], *given)[0] > 0, GRID),
}


@pytest.mark.parametrize("both", [False, True])
def test_flow_helps_the_network(frames, both):
    """The scales are chosen on half of the sequences; the Dice is of the other half."""
    chosen_on, reported = (between(frames, half, both) for half in (0, 1))
    distances, scores = np.array([each["distance"] for each in reported]), {}
    for name, (method, grid) in METHODS.items():
        score = {given: np.mean([dice(method(each, *given), each["mask"]) for each in chosen_on]) for given in grid}
        best = max(score, key=lambda given: (round(score[given], 3), *given[1:]))  # dense clips need a large most
        scores[name] = values = np.array([dice(method(each, *best), each["mask"]) for each in reported])
        row = [f"{values[distances == distance].mean():.3f}" for distance in ((1, 2, 5) if both else (1, 2, 5, 9))]
        print(f"| {name} | {' | '.join(row)} | {values.mean():.3f} | {best} on {score[best]:.3f}")
    gain, sequences = scores["both"] - scores["network"], np.array([each["sequence"] for each in reported])
    gains = [gain[sequences == each].mean() for each in np.unique(sequences)]
    print(f"gain per sequence {np.mean(gains):.4f}, standard error {np.std(gains, ddof=1) / len(gains) ** 0.5:.4f}")
    assert [*scores] == sorted(scores, key=lambda name: scores[name].mean())
    assert both or best == (carry.SCALE, carry.MOST, carry.SLACK)


def test_sweeps_stop_at_cuts(frames):
    """LIMIT is the lowest multiple of 0.05 that 95 % of the cuts do not reach, on the half that chose all else."""
    pairs = [(frames[end - before], frames[end]) for end in FIRST[1:-1:2] for before in (1, 2, 3, 4, 5)]
    cuts = np.array([carry.fused(after["chances"], [moved(key, after)])[1] for key, after in pairs])
    assert np.mean(cuts >= carry.LIMIT) < 0.05 < np.mean(cuts >= carry.LIMIT - 0.05)
    rows, going = [], True
    for frame in between(frames, 1, False):
        mask, confidence = carry.fused(frame["chances"], frame["sides"])
        going = (going or frame["distance"] == 1) and confidence >= carry.LIMIT
        rows.append([going, *(dice(found, frame["mask"]) for found in (mask > 0, frame["chance"] > 0.5))])
    reached, carried, network = np.array(rows).T
    scores = carried[reached > 0].mean(), network[reached > 0].mean(), np.where(reached, carried, network).mean()
    print(f"\n{reached.mean():.2f} reached; carried and network there, all frames: {np.round(scores, 4)}")


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
    network, rng, rows = UNetV2.from_pretrained("polyps"), np.random.default_rng(0), []
    for first, distance in product(FIRST[1:-1:2], (1, 5, 9)):
        image, mask = (cv2.resize(np.uint8(frames[first][name]), size) for name in ("rgb", "mask"))
        later = (shifted(image, distance) + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)
        one, two = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (image, later))
        truth, chance = shifted(mask, distance) > 0, network.predict(later)[1].reshape(size[::-1])
        start = time.process_time()
        found, confidence = carry.fused(np.stack([1 - chance, chance]), [carry.moved(one, mask, two)])
        seconds = time.process_time() - start
        rows.append([distance, dice(found > 0, truth), dice(chance > 0.5, truth), confidence, seconds])
    rows = np.array(rows)
    print(f"\nsynthetic, {size}: distance, carried, network, confidence, seconds of a CPU core")
    print([rows[rows[:, 0] == distance].mean(0).round(3).tolist() for distance in (1, 5, 9)])
    assert rows[:, 1].mean() > rows[:, 2].mean() + 0.1


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_tool_curve_saves_pointer_events(frames, tmp_path):
    """On every fifth frame of the sequences that the curve was not tuned on, if its Dice is below 0.95."""
    file = tmp_path / "frames"
    with file.open("wb") as opened:
        for first, end in [*pairwise(FIRST)][1::2]:
            for frame in (frames[number] for number in range(first, end) if number % 5 == 1):
                if dice(frame["chance"] > 0.5, frame["mask"]) < 0.95:
                    opened.write(np.uint8([frame["chance"] > 0.5, frame["mask"]]).tobytes())
    script = Path(__file__).parent / "page" / "strokes.js"
    printed = subprocess.run(["node", script, file, "384", "288"], capture_output=True, text=True, check=True).stdout
    print(printed)
    found = json.loads(printed)
    assert found["curve"]["events"] <= 0.6 * found["dabs"]["events"]
    assert found["curve"]["events"] < 0.75 * found["drags"]["events"]
