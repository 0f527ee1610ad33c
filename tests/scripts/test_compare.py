# SPDX-License-Identifier: Apache-2.0
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from common.bundle import read_config

from unetv2_monai import InputError
from unetv2_monai.core.files import write_csv

from ..conftest import draw_pairs, read_table, script

compare = script("compare")
TERMS = {"dataset_dir": "data", "overlays": [], "set": {}}


def finished(root: Path, row: str, seed: int, rows: list[dict], epochs: int = 4, cpu: float = 60, **fields) -> None:
    """A run that nothing was trained for, of these rows of scores.csv: a second per epoch and one more."""
    folder = root / row / f"seed{seed}"
    lines = [{"dataset": "set", **line} for line in rows]
    write_csv(folder / "evaluation" / "scores.csv", lines, [*lines[0]])
    curve = [{"seconds": 1, "val_mean_dice": dice} for dice in ("", 0.5)]
    write_csv(folder / "metrics.csv", curve, [*curve[0]])
    content = {"row": row, "seed": seed, "terms": TERMS, "epochs": epochs, "epoch_seconds": epochs}
    content |= {"wall_seconds": epochs + 1, "cpu_seconds": cpu, **fields}
    (folder / "result.json").write_text(json.dumps(content))


def images(**dice: float) -> list[dict]:
    """Of one class, with a pooled Dice of 0.9."""
    counts = {"tp": 9, "fp": 1, "fn": 1}
    return [{"image": f"/d/{n}.png", "class": 1, "dice": one, "iou": one / 2, **counts} for n, one in dice.items()]


def volumes(**cases: list[tuple]) -> list[dict]:
    """Dice, HD95 and perhaps surface Dice of class 1 and of class 2; in the file in any order."""
    places = [(name, index) for index in (2, 1) for name in cases]
    scores = [dict(zip(("dice", "hd95", "surface_dice"), cases[name][index - 1])) for name, index in places]
    return [{"image": f"/d/{n}", "class": i, "iou": 0.5, **of_class} for (n, i), of_class in zip(places, scores)]


def table(folder: Path, reference: str) -> list[list[str]]:
    """The cells of results.md."""
    runs = compare.read_runs(folder, TERMS)
    lines = compare.write_results(folder, runs, [reference]).split("\n\n")[0].splitlines()
    every = [one for found in runs.values() for one in found]
    for line, one in zip(compare.plot(runs).axes[0].lines, every, strict=True):
        assert line.get_xydata() == pytest.approx(np.array([[2 * one.cpu_seconds / one.wall_seconds / 60, 0.5]]))
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
    known = {"peak_mb": 800, "parameters": 1_234_567}
    finished(tmp_path, "a", 0, images(x=0.6, y=0.8), cpu=75, **known)
    finished(tmp_path, "a", 1, images(x=0.7, y=0.9), cpu=150, **{**known, "peak_mb": 900})
    finished(tmp_path, "b", 1, images(y=0.6, x=0.4), epochs=1, **known)
    finished(tmp_path, "c", 7, images(x=0.5, y=0.5))  # of an earlier version, with neither memory nor parameters
    head, *cells = table(tmp_path, "a")
    names = ["network", "seeds", "epochs", "set Dice", "set IoU", "set pooled Dice", "set Dice difference"]
    assert head == [*names, "CPU minutes", "peak MB", "M parameters"]
    # 4 of 5 s are epochs: 60 and 120 s; b is compared with the same seed of a, c has none in common
    a = ["0.750 ± 0.071", "0.375 ± 0.035", "0.900 ± 0.000", "reference", "1.5 ± 0.7", "850 ± 71", "1.23"]
    b = ["0.500", "0.250", "0.900", "-0.300 [-0.300, -0.300]", "0.5", "800", "1.23"]
    c = ["0.500", "0.250", "0.900", "-", "0.8", "-", "-"]
    assert cells == [["a", "2", "4", *a], ["b", "1", "1", *b], ["c", "1", "4", *c]]
    assert [cell[6] for cell in table(tmp_path, "b")[1:]] == ["reference", "+0.300 [+0.300, +0.300]", "-"]
    finished(tmp_path, "d", 0, images(x=0.5, z=0.5))
    with pytest.raises(InputError, match="a and d were scored on different images of set"):
        table(tmp_path, "a")


def test_two_classes_of_volumes_by_hand(tmp_path):
    one = [[(0.8, 1, 0.9), (0.6, 2, 0.5)], [(0.6, 3, 0.7), (0.4, 4, 0.7)]]
    two = [[(0.9, 2, 0.9), (0.7, 3, 0.5)], [(0.7, 4, 0.7), (0.5, 5, 0.7)]]
    # of the seed 0: one volume better by 0.2 and the other by 0, of which class 2 is missed once
    other = [[(1, 0, 1), (0.8, 1, 1)], [(1, 2, 1), (0, float("nan"), 0)]]
    for row, seed, (x, y) in (("a", 0, one), ("a", 1, two), ("b", 0, other)):
        finished(tmp_path, row, seed, volumes(x=x, y=y), 60, 122)
    head, *cells = table(tmp_path, "a")
    names = ["Dice", "Dice difference", "class 1 Dice", "class 2 Dice", "HD95 (mm)", "surface Dice"]
    assert head[3:9] == [f"set {name}" for name in names]
    assert [row[3:10] for row in cells] == [
        # Dice of 0.6 and 0.7
        ["0.650 ± 0.071", "reference", "0.750 ± 0.071", "0.550 ± 0.071", "3.00 ± 0.71", "0.700 ± 0.000", "2.0 ± 0.0"],
        # 0.9 - 0.7 and 0.5 - 0.5: of both volumes drawn twice, the mean is 0, 0.1 (half of the draws) or 0.2
        # HD95 of class 1: (0 + 2) / 2, of class 2: 1; the surface Dice counts the missed one as 0
        ["0.700", "+0.100 [+0.000, +0.200]", "1.000", "0.400", "1.00 (1 undefined)", "0.750", "2.0"],
    ]
    rows = read_table(tmp_path / "scores.csv")
    assert list(rows[0]) == ["row", "seed", "dataset", "image", "class", "dice", "iou", "hd95", "surface_dice"]
    places = [(row["row"], row["seed"], row["image"], row["class"]) for row in rows]
    assert places == [*itertools.product("a", "01", "xy", "12"), *itertools.product("b", "0", "xy", "12")]
    assert [row["dice"] for row in rows[:4]] == ["0.8000", "0.6000", "0.6000", "0.4000"]
    assert [row["hd95"] for row in rows[-4:]] == ["0.0000", "1.0000", "2.0000", ""]
    finished(tmp_path / "flat", "a", 0, volumes(x=[(0.8, 1), (0.6, 2)]))  # of images
    assert table(tmp_path / "flat", "a")[0][7:9] == ["set HD95 (pixels)", "CPU minutes"]


def test_rows_of_options():
    text = "dynunet:network_def#filters=[8,16],x={'a': [[1, 2], [3]], 'b': 2},network_def#deep_supr_num=1"
    files, options = compare.read_row(text, {"overlays": ["options/ema"], "set": {"x": "0", "image_size": "32"}})
    assert files == ["train.json", "options/ema.yaml", "recipes/dynunet.yaml"]
    own = {"network_def#filters": "[8,16]", "x": "{'a': [[1, 2], [3]], 'b': 2}", "network_def#deep_supr_num": "1"}
    assert options == {"image_size": "32", **own}
    assert compare.read_row("unetv2", TERMS) == (["train.json"], {})
    with pytest.raises(InputError, match="--rows unetv2:x=1,fusion: 'fusion' is not of the form KEY="):
        compare.read_row("unetv2:x=1,fusion", TERMS)
    with pytest.raises(InputError, match=r"recipes/unett.yaml does not exist: a row is unetv2 or"):
        compare.read_row("unett", TERMS)


def test_rows_are_trained_and_scored_once(tmp_path, monkeypatch):
    draw_pairs(tmp_path / "data" / "train", 5)
    draw_pairs(tmp_path / "data" / "test", 2)
    row, out = "unetv2:network_def#sdi=false", tmp_path / "out"
    command = ["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(out), "--seeds", "1", "--overlays",
               "options/ema", "--set", "image_size=32", "batch_size=2", "max_epochs=1", "--rows"]  # fmt: skip
    compare.main([*command, row])
    first = (out / "results.md").read_text()
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    (folder,) = out.glob("unetv2*/seed1")
    result = json.loads((folder / "result.json").read_text())
    assert 0 < result["epoch_seconds"] < result["wall_seconds"]
    assert result["cpu_seconds"] > 1
    assert 100 < result["peak_mb"] < 10_000
    network = read_config(["train.json"], {"network_def#sdi": False}).get_parsed_content("network_def")
    assert result["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert (folder / "models" / "model.pt").is_file()
    every = [(line["row"], line["seed"], line["dataset"], line["image"]) for line in read_table(out / "scores.csv")]
    assert every == [(row, "1", "data", f"case_{index}.png") for index in range(2)]
    monkeypatch.setattr(compare, "run_bundle", None)  # a second training would fail
    compare.main([*command, row])
    assert (out / "results.md").read_text() == first
    with pytest.raises(InputError, match=r"was run with .*'max_epochs': '1'.*, now .*'max_epochs': '2'"):
        compare.main([*command[:-2], "max_epochs=2", *command[-1:], row])
    next(out.glob("unetv2*")).rename(out / "unetv2_image_size=_32")  # as if its row had another sign
    with pytest.raises(InputError, match="size=_32/seed1 holds a run of another row than unetv2:image_si"):
        compare.main([*command, "unetv2:image_size=+32"])
