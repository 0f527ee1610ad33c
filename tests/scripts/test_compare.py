# SPDX-License-Identifier: Apache-2.0
import itertools
from pathlib import Path

import numpy as np
import pytest

from unetv2_monai import InputError
from unetv2_monai.core.files import write_csv

from ..conftest import read_table, script

compare = script("compare")


def finished(root: Path, network: str, name: object, rows: list[dict], epochs: int = 4, seconds: float = 30) -> None:
    """A run that nothing was trained for, of these rows of scores.csv."""
    folder = root / network / str(name)
    lines = [{"dataset": "set", **line} for line in rows]
    write_csv(folder / "evaluation" / "scores.csv", lines, [*lines[0]])
    write_csv(folder / "metrics.csv", epochs * [{"seconds": seconds}], ["seconds"])


def images(**dice: float) -> list[dict]:
    """Of one class, with a pooled Dice of 0.9."""
    counts = {"tp": 9, "fp": 1, "fn": 1}
    return [{"image": f"/d/{n}.png", "class": 1, "dice": one, "iou": one / 2, **counts} for n, one in dice.items()]


def volumes(**cases: list[tuple]) -> list[dict]:
    """Dice, HD95 and perhaps surface Dice of class 1 and of class 2; in the file in any order."""
    places = [(name, index) for index in (2, 1) for name in cases]
    scores = [dict(zip(("dice", "hd95", "surface_dice"), cases[name][index - 1])) for name, index in places]
    return [{"image": f"/d/{n}", "class": i, "iou": 0.5, **of_class} for (n, i), of_class in zip(places, scores)]


def table(folder: Path, *networks: str) -> list[list[str]]:
    """The cells of results.md."""
    compare.main([*(str(folder / name) for name in networks), "--output_dir", str(folder / "out")])
    lines = (folder / "out" / "results.md").read_text().split("\n\n")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in [lines[0], *lines[2:]]]


def test_interval_of_all_possible_draws():
    """Each is as likely as another; both networks, and all seeds, have the same images in a draw."""
    scores = np.array([[0.9, 0.5, 0.7, 0.6], [0.8, 0.7, 0.2, 0.6]])
    reference = np.array([[0.8, 0.1, 0.8, 0.6], [0.9, 0.3, 0.1, 0.3]])
    draws = itertools.product(itertools.product(range(2), repeat=2), itertools.product(range(4), repeat=4))
    means = [(scores - reference)[np.ix_(seeds, images)].mean() for seeds, images in draws]
    mean, *interval = compare.paired_difference(scores, reference, resamples=100_000)
    assert mean == pytest.approx(0.1375)  # (0.1 + 0.4 - 0.1 + 0 - 0.1 + 0.4 + 0.1 + 0.3) / 8
    assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
    # of one seed, three images with a difference of 0, 0 and 0.3: of 27 draws, 8 have the mean 0 and 1 has 0.3
    assert compare.paired_difference(np.array([[0.5, 0.7, 0.9]]), np.array([[0.5, 0.7, 0.6]])) == pytest.approx(
        (0.1, 0, 0.3)
    )


def test_table_by_hand(tmp_path):
    finished(tmp_path, "a", 0, images(x=0.6, y=0.8))
    finished(tmp_path, "a", 1, images(x=0.7, y=0.9), seconds=60)
    finished(tmp_path, "b", 1, images(y=0.6, x=0.4), epochs=1)
    finished(tmp_path, "c", 7, images(x=0.5, y=0.5))
    head, *cells = table(tmp_path, "a", "b", "c")
    names = ["network", "runs", "epochs", "set Dice", "set IoU", "set pooled Dice", "set Dice difference", "minutes"]
    assert head == names
    # b is compared with the same run of a, c has none in common
    a = ["0.750 ± 0.071", "0.375 ± 0.035", "0.900 ± 0.000", "reference", "3.0 ± 1.4"]
    b = ["0.500", "0.250", "0.900", "-0.300 [-0.300, -0.300]", "0.5"]
    c = ["0.500", "0.250", "0.900", "-", "2.0"]
    assert cells == [["a", "2", "4", *a], ["b", "1", "1", *b], ["c", "1", "4", *c]]
    assert [cell[6] for cell in table(tmp_path, "b", "a")[1:]] == ["reference", "+0.300 [+0.300, +0.300]"]
    finished(tmp_path, "d", 0, images(x=0.5, z=0.5))
    with pytest.raises(InputError, match=r"d/0 and .*a/0 were scored on different images of set"):
        table(tmp_path, "a", "d")
    with pytest.raises(InputError, match="out holds no scored run"):
        table(tmp_path, "a", "out")
    with pytest.raises(InputError, match=r"a have one name. Rename one"):
        table(tmp_path, "a", "a")


def test_folds_are_pooled(tmp_path):
    """Of three images, one in the second fold: differences of 0.1, 0.3 and 0.5; of 27 draws, one has 0.1 thrice."""
    for network, more in (("a", 0.0), ("b", 0.1)):
        finished(tmp_path, network, "fold_0", images(x=0.2 + more, y=0.2 + 3 * more))
        finished(tmp_path, network, "fold_1", images(z=0.4 + 5 * more))
    assert table(tmp_path, "a", "b")[2][6] == "+0.300 [+0.100, +0.500]"


def test_two_classes_of_volumes_by_hand(tmp_path):
    one = [[(0.8, 1, 0.9), (0.6, 2, 0.5)], [(0.6, 3, 0.7), (0.4, 4, 0.7)]]
    two = [[(0.9, 2, 0.9), (0.7, 3, 0.5)], [(0.7, 4, 0.7), (0.5, 5, 0.7)]]
    # of the seed 0: one volume better by 0.2 and the other by 0, of which class 2 is missed once
    other = [[(1, 0, 1), (0.8, 1, 1)], [(1, 2, 1), (0, float("nan"), 0)]]
    for network, seed, (x, y) in (("a", 0, one), ("a", 1, two), ("b", 0, other)):
        finished(tmp_path, network, seed, volumes(x=x, y=y))
    head, *cells = table(tmp_path, "a", "b")
    names = ["Dice", "Dice difference", "class 1 Dice", "class 2 Dice", "HD95 (mm)", "surface Dice"]
    assert head[3:9] == [f"set {name}" for name in names]
    assert [row[3:10] for row in cells] == [
        # Dice of 0.6 and 0.7
        ["0.650 ± 0.071", "reference", "0.750 ± 0.071", "0.550 ± 0.071", "3.00 ± 0.71", "0.700 ± 0.000", "2.0 ± 0.0"],
        # 0.9 - 0.7 and 0.5 - 0.5: of both volumes drawn twice, the mean is 0, 0.1 (half of the draws) or 0.2
        # HD95 of class 1: (0 + 2) / 2, of class 2: 1; the surface Dice counts the missed one as 0
        ["0.700", "+0.100 [+0.000, +0.200]", "1.000", "0.400", "1.00 (1 undefined)", "0.750", "2.0"],
    ]
    rows = read_table(tmp_path / "out" / "scores.csv")
    assert list(rows[0]) == ["network", "run", "dataset", "image", "class", "dice", "iou", "hd95", "surface_dice"]
    places = [(row["network"], row["run"], row["image"], row["class"]) for row in rows]
    assert places == [*itertools.product("a", "01", "xy", "12"), *itertools.product("b", "0", "xy", "12")]
    assert [row["dice"] for row in rows[:4]] == ["0.8000", "0.6000", "0.6000", "0.4000"]
    assert [row["hd95"] for row in rows[-4:]] == ["0.0000", "1.0000", "2.0000", ""]
    finished(tmp_path / "flat", "a", 0, volumes(x=[(0.8, 1), (0.6, 2)]))  # of images
    assert table(tmp_path / "flat", "a")[0][7:9] == ["set HD95 (pixels)", "minutes"]
