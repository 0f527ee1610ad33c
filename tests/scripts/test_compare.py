# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from unetv2_monai import InputError

from ..conftest import draw_pair, script


def test_table_by_hand():
    def run(dice, seconds):
        return {"cpu_seconds": seconds, "summary": {"set": {"dice": {"mean": dice}, "iou": {"mean": dice / 2},
                                                             "pooled": {"dice": 0.9}}}}  # fmt: skip

    table = script("compare").tabulate({"a": [run(0.7, 60), run(0.8, 120)], "b": [run(0.5, 30)]})
    assert table.splitlines() == [
        "| network | seeds | set Dice | set IoU | set pooled Dice | CPU minutes |",
        "|---|---|---|---|---|---|",
        "| a | 2 | 0.750 ± 0.071 | 0.375 ± 0.035 | 0.900 ± 0.000 | 1.5 ± 0.7 |",
        "| b | 1 | 0.500 | 0.250 | 0.900 | 0.5 |",
    ]


def test_rows_are_trained_and_scored_once(tmp_path, capsys):
    for split, count in (("train", 5), ("test", 2)):
        for index in range(count):
            draw_pair(tmp_path / "data" / split, f"{split}{index}", 48, 40, seed=index)
    command = ["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out"), "--seeds", "1", "--rows",
               "unetv2:network_def#sdi=false", "segresnet", "--overlays", "recipes/small", "--set", "image_size=32",
               "batch_size=2", "max_epochs=1"]  # fmt: skip
    tool = script("compare")
    tool.main(command)
    first = (tmp_path / "out" / "results.md").read_text()
    assert first.count("\n| ") == 2
    (folder,) = (tmp_path / "out").glob("unetv2*/seed1")
    result = json.loads((folder / "result.json").read_text())
    assert result["cpu_seconds"] > 1
    assert (folder / "models" / "model.pt").is_file()
    tool.run_bundle = None  # a second training would fail
    tool.main(command)
    assert (tmp_path / "out" / "results.md").read_text() == first
    with pytest.raises(InputError, match=r"was run with .*'max_epochs': '1'.*, now .*'max_epochs': '2'"):
        tool.main([*command[:-1], "max_epochs=2"])


def test_unknown_row(tmp_path):
    with pytest.raises(InputError, match=r"recipes/unett.yaml does not exist: a row is unetv2 or"):
        script("compare").main(["--dataset_dir", ".", "--output_dir", str(tmp_path), "--rows", "unett"])
