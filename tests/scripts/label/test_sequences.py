# SPDX-License-Identifier: Apache-2.0
"""Numbers of docs/how-to/label.md about the frames of CVC-ClinicDB, printed by
``pytest -s -m slow tests/scripts/label/test_sequences.py``: whether a corrected mask helps on the frames after it, and
how many pointer events a correction takes.
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

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: make label-env")
DATA = os.environ.get("UNETV2_TEST_DATA", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA, reason="UNETV2_TEST_DATA names no folder")]
# numbers of the first frames of the sequences of CVC-ClinicDB, and one behind the last frame
FIRST = [
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448, 467, 479,
    504, 529, 547, 572, 592, 613,
]  # fmt: skip
EVERY = 10  # frames from one corrected mask to the next
Y, X = np.mgrid[:288, :384].astype(np.float32)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1)


def depth(mask: np.ndarray) -> np.ndarray:
    """Pixels to the outline, positive inside."""
    inside, outside = (cv2.distanceTransform(np.uint8(part), cv2.DIST_L2, 3) for part in (mask, ~mask))
    return np.clip(inside, 0, 200) - np.clip(outside, 0, 200)


def warped(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    return cv2.remap(values, X + flow[..., 0], Y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def carried(key: dict, frame: dict) -> tuple[np.ndarray, np.ndarray]:
    """The depth in a corrected mask after it was moved by the flow to a frame, and the flow's error in pixels."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = (flow.calc(a["grey"], b["grey"], None) for a, b in ((frame, key), (key, frame)))
    return depth(warped(np.float32(key["mask"]), there) > 0.5), np.linalg.norm(warped(back, there) + there, axis=2)


@pytest.fixture(scope="module")
def frames() -> dict[int, dict]:
    """Of each frame by its number: grey values, true mask, logits of the shipped weights, which never saw one."""
    network, found, seconds = UNetV2.from_pretrained("polyps"), {}, []
    folder = Path(DATA) / "polyp"
    paths = [*folder.glob("train/images/clinicdb_*"), *folder.glob("test/clinicdb/images/*")]
    for path in paths:
        start = time.process_time()
        chance = np.asarray(network.predict(str(path))[1], np.float32).reshape(288, 384).clip(1e-4, 1 - 1e-4)
        seconds.append(time.process_time() - start)
        with Image.open(path) as image, Image.open(next((path.parents[1] / "masks").glob(f"{path.stem}.*"))) as mask:
            values = {"grey": np.asarray(image.convert("L")), "mask": np.asarray(mask.convert("L")) > 127}
            values |= {"rgb": np.asarray(image.convert("RGB")), "chance": chance}
        found[int(path.stem.split("_")[-1])] = values | {"logit": np.log(chance / (1 - chance))}
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
            sides = [(weight, *carried(frames[key], frames[number])) for key, weight in keys.items()]
            seconds.append((time.process_time() - start) / len(keys))
            still = sum(weight * depth(frames[key]["mask"]) for key, weight in keys.items())
            distance = min(at, EVERY - at) if both else at
            found.append(frames[number] | {"sides": sides, "still": still, "distance": distance, "sequence": first})
    print(f"flow there and back {np.median(seconds):.3f}")
    return found


def fused(frame: dict, scale: float, most: float, slack: float) -> np.ndarray:
    """The network's logit and that of the moved masks, the smaller the larger the flow's error is."""
    prior = sum(w * np.exp(-error / slack) * np.clip(moved / scale, -most, most) for w, moved, error in frame["sides"])
    return frame["logit"] + prior > 0


METHODS = {
    "mask, not moved": (lambda frame: frame["still"] > 0, [()]),
    "mask, moved by the flow": (lambda frame: sum(w * moved for w, moved, _ in frame["sides"]) > 0, [()]),
    "network": (lambda frame: frame["logit"] > 0, [()]),
    "network + moved mask": (fused, [*product((5, 10, 20, 40), (0.5, 1, 2, 4), [math.inf])]),
    "network + moved mask by the flow's error": (fused, [*product((5, 10, 20, 40), (0.5, 1, 2, 4), [2])]),
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
        best = max(score, key=score.get)
        values = np.array([dice(method(each, *best), each["mask"]) for each in reported])
        scores[name] = values
        row = [f"{values[distances == distance].mean():.3f}" for distance in ((1, 2, 5) if both else (1, 2, 5, 9))]
        print(f"| {name} | {' | '.join(row)} | {values.mean():.3f} | {best} on {score[best]:.3f}")
    print("95 % of the last row's gain, sequences drawn anew: {:.4f} to {:.4f}".format(*interval(reported, scores)))
    means = {name: values.mean() for name, values in scores.items()}
    assert means["mask, not moved"] < means["mask, moved by the flow"] < means["network"] - 0.2
    assert max(means.values()) < means["network"] + 0.02


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
