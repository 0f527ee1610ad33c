# SPDX-License-Identifier: Apache-2.0
import argparse
import itertools
import json
from pathlib import Path

import filelock
import numpy as np
import pytest
from common.bundle import Usage, read_config
from comparisons.results import paired_difference, plot, tabulate
from comparisons.rows import Row
from comparisons.runs import fitting_epochs, read_runs

from unetv2_monai import InputError

from ..conftest import draw_pairs, read_table, script
from ..support.compared import finished

COLUMNS = "| network | seeds | epochs | set Dice | set IoU | set pooled Dice | set Dice difference | CPU minutes |"
COLUMNS += " peak MB | M parameters |"


def test_interval_of_all_possible_draws():
    """Each is as likely as another; both networks, and all seeds, have the same images in a draw."""
    scores = np.array([[0.9, 0.5, 0.7, 0.6], [0.8, 0.7, 0.2, 0.6]])
    reference = np.array([[0.8, 0.1, 0.8, 0.6], [0.9, 0.3, 0.1, 0.3]])
    draws = itertools.product(itertools.product(range(2), repeat=2), itertools.product(range(4), repeat=4))
    means = [(scores - reference)[np.ix_(seeds, images)].mean() for seeds, images in draws]
    mean, interval = paired_difference(scores, reference, resamples=100_000)
    assert mean == pytest.approx(0.1375)  # (0.1 + 0.4 - 0.1 + 0 - 0.1 + 0.4 + 0.1 + 0.3) / 8
    assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
    # of one seed, three images with a difference of 0, 0 and 0.3: of 27 draws, 8 have the mean 0 and 1 has 0.3
    mean, interval = paired_difference(np.array([[0.5, 0.7, 0.9]]), np.array([[0.5, 0.7, 0.6]]))
    assert (mean, *interval) == pytest.approx((0.1, 0, 0.3))


def test_table_by_hand(tmp_path):
    a = [
        finished(tmp_path / "a0", {"x": 0.6, "y": 0.8}, cpu=75),
        finished(tmp_path / "a1", {"x": 0.7, "y": 0.9}, cpu=150, peak=900, seed=1),
    ]
    b = [finished(tmp_path / "b1", {"x": 0.4, "y": 0.6}, epochs=1, cpu=60, row="b", seed=1)]
    finished(tmp_path / "c" / "seed7", {"x": 0.5}, row="c", seed=7)
    path = tmp_path / "c" / "seed7" / "result.json"  # of an earlier version, with neither memory nor parameters
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("peak_mb", "parameters")}
    path.write_text(json.dumps(kept))
    c = read_runs(tmp_path)
    assert tabulate({"a": a, "b": b, "c": c}, "a").splitlines() == [
        COLUMNS,
        "|---" * 10 + "|",
        # 4 of 5 s: 60 and 120 s
        "| a | 2 | 4 | 0.750 ± 0.071 | 0.375 ± 0.035 | 0.900 ± 0.000 | reference | 1.5 ± 0.7 | 850 ± 71 | 1.23 |",
        # to the same seed of a
        "| b | 1 | 1 | 0.500 | 0.250 | 0.900 | -0.300 [-0.300, -0.300] | 0.5 | 800 | 1.23 |",
        "| c | 1 | 4 | 0.500 | 0.250 | 0.900 | - | 0.8 | - | - |",  # no seed in common
    ]
    other = [finished(tmp_path / "d0", {"x": 0.5, "z": 0.5}, row="d")]
    with pytest.raises(InputError, match="d and a were scored on different images of set"):
        tabulate({"a": a, "d": other}, "a")


def test_a_row_with_a_list():
    row = Row.parse("dynunet:network_def#filters=[8,16],x={'a': [[1, 2], [3]], 'b': 2},network_def#deep_supr_num=1")
    assert row.options == {
        "network_def#filters": "[8,16]", "x": "{'a': [[1, 2], [3]], 'b': 2}", "network_def#deep_supr_num": "1"
    }  # fmt: skip
    assert row.label == "dynunet filters=[8,16] x={'a': [[1, 2], [3]], 'b': 2} deep_supr_num=1"
    assert Row.parse("unetv2").options == {}
    with pytest.raises(argparse.ArgumentTypeError, match="'fusion' is not of the form KEY=VALUE"):
        Row.parse("unetv2:network_def#sdi=false,fusion")


def test_epochs_that_fit(tmp_path):
    reference = [finished(tmp_path / "a", {"x": 1}, epochs=10, cpu=110)]  # 100 s in epochs

    def fitting(epochs, cpu, interval):
        name = f"{epochs} {cpu} {interval}"
        return fitting_epochs([finished(tmp_path / name, {"x": 1}, epochs=epochs, cpu=cpu)], reference, interval)

    # 10 s each; 10.2 s each, 2 % more; 10.4 s each
    assert [fitting(4, cpu, 1) for cpu in (50, 51, 52, 25, 150)] == [10, 10, 9, 20, 3]
    assert fitting(4, 150, 2) == 2  # of 3 the last would not be validated
    assert fitting(4, 150, 5) == 3  # less than an interval
    assert fitting(1, 2000, 1) == 1


def test_plot_has_a_point_per_row_and_terms_and_a_line_per_run(tmp_path):
    a = [finished(tmp_path / f"a{seed}", {"x": dice}, seed=seed, cpu=75) for seed, dice in ((0, 0.5), (1, 0.7))]
    b = [finished(tmp_path / "b", {"x": 0.4}, row="b:network_def#sdi=false", cpu=150)]
    # of 2 and 1 s, in a process of 150 s of CPU time in 5 s
    (tmp_path / "b" / "metrics.csv").write_text("epoch,seconds,val_mean_dice\n1,2.0,\n2,1.0,0.25\n")
    figure = plot({"epochs": {"a": a, "b:network_def#sdi=false": b}, "time": {"a": a}})
    axis, validation = figure.axes
    assert [line.get_xydata().tolist() for line in validation.lines] == [[[1.5, 0.25]]]
    lines = [container.lines[0] for container in axis.containers]
    points = [value for line in lines for value in (*line.get_xdata(), *line.get_ydata())]
    assert points == pytest.approx([1, 0.6, 2, 0.4, 1, 0.6])
    assert [line.get_markerfacecolor() for line in lines] == ["C0", "C1", "none"]
    bars = axis.containers[0].lines[2][1].get_segments()[0]
    assert bars[:, 1] == pytest.approx([0.6 - 0.1414, 0.6 + 0.1414], abs=1e-3)
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b sdi=false", "a, equal time"]


def test_rows_are_trained_and_scored_once(tmp_path):
    draw_pairs(tmp_path / "data" / "train", 5)
    draw_pairs(tmp_path / "data" / "test", 2)
    command = ["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out"), "--seeds", "1", "--rows",
               "unetv2:network_def#sdi=false", "segresnet", "--overlays", "options/ema", "--set", "image_size=32",
               "batch_size=2", "max_epochs=1"]  # fmt: skip
    tool = script("compare")
    tool.main(command)
    first = (tmp_path / "out" / "results.md").read_text()
    (folder,) = (tmp_path / "out").glob("unetv2*/seed1")
    result = json.loads((folder / "result.json").read_text())
    assert 0 < result["epoch_seconds"] < result["wall_seconds"]
    assert result["cpu_seconds"] > 1
    assert 100 < result["peak_mb"] < 10_000
    config = read_config(["train.json"], {"pretrained": False, "network_def#sdi": False})
    parameters = config.get_parsed_content("network_def").parameters()
    assert result["parameters"] == sum(parameter.numel() for parameter in parameters)
    assert (folder / "models" / "model.pt").is_file()
    scores, table = (read_table(place / "scores.csv") for place in (folder / "evaluation", tmp_path / "out"))
    expected = [(Path(row["image"]).name, f"{float(row['dice']):.4f}") for row in scores]
    assert expected == [(row["image"], row["dice"]) for row in table if row["row"] == "unetv2:network_def#sdi=false"]
    assert {(row["row"].partition(":")[0], row["seed"], row["terms"], row["dataset"]) for row in table} == {
        (name, "1", "epochs", "data") for name in ("unetv2", "segresnet")
    }
    tool.run_bundle = None  # a second training would fail
    tool.main(command)
    assert (tmp_path / "out" / "results.md").read_text() == first
    with pytest.raises(InputError, match=r"was run with .*'max_epochs': '1'.*, now .*'max_epochs': '2'"):
        tool.main([*command[:-1], "max_epochs=2"])


@pytest.fixture
def comparison(tmp_path):
    """
    compare.py with trainings that take no time: 1 s for an epoch of segresnet, 2 s of fpn, 10 s for the start.

    A function that runs it, and the list of the trainings: folder, seed, epochs and interval of validations.
    """
    tool, trained = script("compare"), []

    def run_bundle(run_id, files, options, log):
        folder = Path(options["output_dir"])
        if run_id == "training":
            seconds, epochs = 1 + ("recipes/fpn.yaml" in files), int(options["max_epochs"])
            trained.append((str(folder.relative_to(tmp_path)), int(options["seed"]), epochs, options["val_interval"]))
            finished(folder, {"x": 0.5 + 0.1 * seconds}, epochs=epochs)
            (folder / "metrics.csv").write_text("epoch,seconds\n" + f"1,{seconds}\n" * epochs)
            return Usage(wall=10 + seconds * epochs, cpu=2 * (10 + seconds * epochs), peak_mb=800)
        return None

    tool.run_bundle, tool.parameters_of = run_bundle, lambda files, options: 1_234_567

    def compare(*arguments: str) -> str:
        common = ["--dataset_dir", "data", "--output_dir", str(tmp_path), "--set", "max_epochs=8", "val_interval=2"]
        tool.main([*common, *arguments])
        return (tmp_path / "results.md").read_text()

    return compare, trained


def test_equal_time(comparison, tmp_path):
    compare, trained = comparison
    text = compare("--rows", "segresnet", "fpn", "--seeds", "0", "1", "--equal_time")
    in_order = [(f"{row}/seed{seed}", seed, 8, "2") for seed in (0, 1) for row in ("segresnet", "fpn")]
    limited = "fpn_max_epochs=4_val_interval=2"
    assert trained == [*in_order, *((f"{limited}/seed{seed}", seed, 4, "2") for seed in (0, 1))]
    epochs, time = text.split("As many epochs as fit into the CPU time of segresnet:")
    dice = "0.700 ± 0.000 | 0.350 ± 0.000 | 0.900 ± 0.000 | +0.100 [+0.100, +0.100]"
    assert "| segresnet | 2 | 8 | 0.600 ± 0.000 |" in epochs
    assert f"| fpn | 2 | 8 | {dice} | 0.5 ± 0.0 | 800 ± 0 | 1.23 |" in epochs
    assert "max_epochs" not in epochs
    assert "| segresnet | 2 | 8 | 0.600 ± 0.000 |" in time
    assert f"| fpn | 2 | 4 | {dice} | 0.3 ± 0.0 |" in time
    assert [(row["row"], row["seed"], row["terms"]) for row in read_table(tmp_path / "scores.csv")] == [
        (row, seed, terms)
        for row, terms in (("segresnet", "epochs"), ("fpn", "epochs"), ("fpn", "time"))
        for seed in "01"
    ]
    assert (tmp_path / "results.png").read_bytes()[1:4] == b"PNG"
    # other rows and seeds join them; with another first row, the same runs are compared with that
    other = compare("--rows", "fpn", "unetv2", "--seeds", "1", "--equal_time")
    assert [run[0] for run in trained[6:]] == ["unetv2/seed1", "unetv2_max_epochs=16_val_interval=2/seed1"]
    epochs, time = other.split("As many epochs as fit into the CPU time of fpn:")
    rows = [line.split(" | ")[:2] for line in epochs.splitlines()[2:5]]
    assert rows == [["| fpn", "2"], ["| unetv2", "1"], ["| segresnet", "2"]]
    assert "segresnet" not in time


def test_runs_of_as_many_epochs_are_not_repeated(comparison, tmp_path):
    compare, trained = comparison
    rows = ["fpn", "fpn:network_def#decoder_dropout=0", "segresnet"]
    text = compare("--rows", *rows, "--seeds", "0", "--equal_time")
    folders = ["fpn", "fpn_network_def_decoder_dropout=0", "segresnet", "segresnet_max_epochs=16_val_interval=2"]
    assert [run[0] for run in trained] == [f"{name}/seed0" for name in folders]
    assert text.count("| fpn:network_def#decoder_dropout=0 | 1 | 8 |") == 2
    assert (tmp_path / "scores.csv").read_text().count("fpn:network_def#decoder_dropout=0,0,epochs") == 1
    assert compare("--rows", *rows, "--seeds", "0", "--equal_time") == text
    assert len(trained) == 4


def test_warm_up_keeps_its_share_of_a_shorter_training(comparison, tmp_path):
    compare, _ = comparison
    overlays = ["--overlays", "recipes/recommended"]  # 2 epochs of warm-up
    compare("--rows", "segresnet", "fpn", "--seeds", "0", "--equal_time", *overlays)
    compare("--rows", "fpn", "unetv2", "--seeds", "0", "--equal_time", *overlays)
    assert json.loads((tmp_path / "equal_time.json").read_text()) == {
        "segresnet": {"fpn": "fpn:max_epochs=4,val_interval=2,warmup_epochs=1"},
        "fpn": {"unetv2": "unetv2:max_epochs=16,val_interval=2,warmup_epochs=4"},
    }


def test_a_run_of_another_process_is_left_to_it(comparison, tmp_path, capsys):
    compare, trained = comparison
    (tmp_path / "fpn" / "seed0").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "fpn" / "seed0" / "lock"):
        text = compare("--rows", "segresnet", "fpn", "--seeds", "0", "--equal_time")
    assert "| segresnet |" in text
    assert "| fpn |" not in text
    printed = capsys.readouterr().out
    assert "fpn, seed 0: another process works on it" in printed
    assert "fpn: not in the time of segresnet until both have a finished run" in printed
    assert "| fpn |" in compare("--rows", "segresnet", "fpn", "--seeds", "0")
    assert [run[0] for run in trained] == ["segresnet/seed0", "fpn/seed0"]


def test_unknown_row(tmp_path):
    with pytest.raises(InputError, match=r"recipes/unett.yaml does not exist: a row is unetv2 or"):
        script("compare").main(["--dataset_dir", ".", "--output_dir", str(tmp_path), "--rows", "unett"])
