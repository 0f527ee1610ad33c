# SPDX-License-Identifier: Apache-2.0
"""Long runs: killed, resumed, stopped, watched."""

import json
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, RandFlip

from unetv2_monai.core.files import write_atomic
from unetv2_monai.handlers.runs import seed_epoch

from ..conftest import draw_pairs, read_table
from ..support.workflow import TINY, TRAIN, cases, command, overlays, refusal, run

LONG = partial(pytest.param, marks=pytest.mark.slow)
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["monai.bundle", "unetv2_monai", "timm", "tests.support.workflow"])


def train(files: list[str], options: dict, log: str) -> None:
    """The training of a child process, quiet."""
    with open(log, "a") as opened:
        os.dup2(opened.fileno(), 1)
        os.dup2(opened.fileno(), 2)
    torch.set_num_threads(1)
    run(files, "training", **options)


def start(files: list[str], options: dict, log: Path, target=train) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=target, args=(files, options, str(log)))
    process.start()
    return process


def load(folder: Path, name: str) -> dict:
    return torch.load(folder / "models" / name, weights_only=True)


def same(one, two) -> bool:
    """Whether two checkpoints are equal, to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two or (one != one and two != two)


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv, without the times; none before it exists."""
    rows = read_table(folder / "metrics.csv") if (folder / "metrics.csv").exists() else []
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture
def options(trained, tmp_path) -> dict:
    """Of a new run on the data of ``trained``."""
    return {"dataset_dir": trained[0], "output_dir": tmp_path / "out", **TINY}


@pytest.fixture
def resumed(trained, options) -> dict:
    """Options that go on with a copy of the run of ``trained``, which had two epochs."""
    shutil.copytree(trained[1], options["output_dir"])
    return {**options, "resume": True, "max_epochs": 3}


@pytest.mark.parametrize(
    ("names", "kills"),
    [("recipes/recommended options/ema", 4), LONG("", 20), LONG("recipes/recommended options/ema", 20)],
)
def test_a_run_killed_many_times_ends_as_one_left_alone(names, kills, options, tmp_path):
    options |= {"max_epochs": 2 * kills, "check_data": False}
    options |= {"image_size": 64} if names else {}
    files, draw = [*TRAIN, *overlays(*names.split())], random.Random(kills)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = start(files, {**options, "output_dir": alone}, tmp_path / "alone.log")
    process.join()
    assert process.exitcode == 0, (tmp_path / "alone.log").read_text()[-2000:]
    per_epoch = np.mean([float(row["seconds"]) for row in read_table(alone / "metrics.csv")])

    done = 0
    for _ in range(10 * kills):
        resume = (killed / "models" / "last.pt").exists()
        epochs = len(metrics(killed))
        process = start(files, {**options, "output_dir": killed, "resume": resume}, tmp_path / "killed.log")
        if done < kills:
            while process.is_alive() and len(metrics(killed)) <= epochs:
                time.sleep(0.005)
            process.join(draw.uniform(0, per_epoch))  # any moment of an epoch, its validation and saving included
            if process.is_alive():
                process.kill()
                done += 1
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "killed.log").read_text()[-2000:]
    assert process.exitcode == 0
    assert done >= kills // 2
    print(f"{done} kills")
    first, second = load(alone, "last.pt"), load(killed, "last.pt")
    assert first.keys() == second.keys()
    assert ("ema" in first) == ("options/ema" in names)  # else averages would begin anew in silence
    assert [key for key in first if not same(first[key], second[key])] == []
    assert same(load(alone, "model.pt"), load(killed, "model.pt"))
    assert metrics(alone) == metrics(killed)
    assert len(json.loads((killed / "run.json").read_text())["starts"]) >= done


def test_a_file_is_whole_or_the_old_one(tmp_path):
    """Killed in the middle of writing, with no chance to clean up."""
    path = tmp_path / "file"
    write_atomic(path, "before")

    def write(opened):
        opened.write(b"half")
        opened.flush()
        os._exit(9)

    child = os.fork()
    if child == 0:
        write_atomic(path, write)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_text() == "before"
    write_atomic(path, b"after")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "after")]


def small_files(*arguments) -> None:
    """A child whose files cannot grow beyond 100 kB, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    train(*arguments)


def test_full_disk(trained, resumed, tmp_path):
    process = start(TRAIN, resumed, tmp_path / "log", small_files)
    process.join()
    assert process.exitcode == 1
    log = (tmp_path / "log").read_text()
    assert "last.pt cannot be written" in log or "model.pt cannot be written" in log
    assert same(load(trained[1], "last.pt"), load(tmp_path / "out", "last.pt"))
    assert not list(tmp_path.rglob("*.partial"))


def test_folder_that_cannot_be_written(options, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert "run.json cannot be written (Not a directory)" in refusal(
        run, TRAIN, "training", **{**options, "output_dir": tmp_path / "file" / "out"}
    )


@pytest.mark.parametrize(("changes", "message"), cases("refusals", "runs"))
def test_runs_are_not_mixed(changes, message, trained, resumed, tmp_path):
    """What was written stays as it was."""
    assert message in refusal(run, TRAIN, "training", **{**resumed, **changes})
    for name in ("run.json", "models/last.pt", "models/model.pt"):
        assert (tmp_path / "out" / name).read_bytes() == (trained[1] / name).read_bytes()


def test_a_run_says_what_it_was(trained):
    data, out = trained
    noted = json.loads((out / "run.json").read_text())
    assert noted["config"]["dataset_dir"] == str(data)
    assert noted["config"]["max_epochs"] == 2
    assert noted["config"]["loss"]["_target_"] == "DeepSupervisionLoss"
    (began,) = noted["starts"]
    assert began["packages"]["torch"] == torch.__version__.partition("+")[0]
    rows = metrics(out)
    assert [(row["epoch"], row["iteration"]) for row in rows] == [("1", "2"), ("2", "4")]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3, 1e-3 * 0.5**0.9])
    last = load(out, "last.pt")
    assert max(float(row["val_mean_dice"]) for row in rows) == pytest.approx(last["best"]["_saved"][0][0])
    assert all(math.isfinite(float(row["train_mean_loss"])) for row in rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_cleanly_and_changes_nothing(number, options, tmp_path):
    process = start(TRAIN, {**options, "max_epochs": 500}, tmp_path / "log")
    while not (tmp_path / "out" / "models" / "last.pt").exists() and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join()
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 128 + number, log[-2000:]
    assert f"stopped by {number.name}; go on with --resume true" in log
    assert "Traceback" not in log
    saved = load(tmp_path / "out", "last.pt")["trainer"]
    assert saved["iteration"] % saved["epoch_length"] == 0


def test_loss_that_is_no_number(options, tmp_path):
    bad = {"_target_": "tests.support.networks.NaNLoss", "after": 3}
    message = refusal(run, TRAIN, "training", max_epochs=2, loss=bad, **options)
    assert re.match(r"the loss is nan in epoch 2, iteration 3, on .*case_", message)
    kept = torch.load(tmp_path / "out" / "nan_batch.pt", weights_only=True)
    assert kept["image"].shape == (2, 3, 32, 32)
    assert kept["label"].shape == (2, 1, 32, 32)
    assert (kept["epoch"], kept["iteration"]) == (2, 3)
    assert all(Path(path).is_file() for path in kept["path"])
    assert load(tmp_path / "out", "last.pt")["trainer"]["iteration"] == 2


def test_randomness_of_an_epoch_depends_on_seed_rank_and_epoch():
    def draw(seed: int, rank: int, epoch: int) -> tuple:
        transform, engine = Compose([RandFlip(prob=0.5)]), Engine(lambda engine, batch: None)
        engine.state.epoch = epoch
        seed_epoch(engine, seed, rank, transform)
        own = transform.transforms[0].R.rand()
        return (random.random(), np.random.rand(), torch.rand(1).item(), own)

    first = draw(1, 0, 5)
    assert draw(1, 0, 5) == first
    for other in ((5, 0, 1), (1, 1, 5), (1, 0, 6), (0, 0, 6)):
        assert not set(draw(*other)) & set(first)


def test_early_stop_counts_on_when_resumed(options, tmp_path):
    """A network that does not change: best in validation 1, the third without a better one is validation 4."""
    files = [*TRAIN, *overlays("options/early_stop")]
    still = {"network_def": {"_target_": "tests.support.networks.Bright"}, "optimizer#params": "$@network.parameters()"}
    options = {key: value for key, value in options.items() if "#channels" not in key}
    options |= {"patience": 3, "learning_rate": 0.0, **still}
    run(files, "training", max_epochs=2, **options)
    flow = run(files, "training", max_epochs=10, resume=True, **options)
    assert flow.parser.get_parsed_content("train#trainer").state.epoch == 4
    assert load(tmp_path / "out", "last.pt")["early_stop"]["counter"] == 3


def test_a_time_limit_may_be_added_when_resumed(resumed):
    files = [*TRAIN, *overlays("options/time_limit")]
    flow = run(files, "training", max_hours=0, **{**resumed, "max_epochs": 500})
    assert 3 <= flow.parser.get_parsed_content("train#trainer").state.epoch < 100


def test_the_state_of_mixed_precision_fits_every_device(trained):
    """A run that was begun on a CPU goes on on a GPU."""
    torch.amp.GradScaler("cpu", enabled=True).load_state_dict(load(trained[1], "last.pt")["scaler"])


@pytest.mark.slow
def test_mlflow(options, tmp_path):
    """MONAI's own switch: all metrics of all epochs are tracked."""
    mlflow = pytest.importorskip("mlflow")
    words = command(TRAIN, "training", max_epochs=2, tracking="mlflow", **options)
    done = subprocess.run([sys.executable, "-W", "ignore", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlruns.db'}")
    (tracked,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    for name in ("train_mean_loss", "val_mean_dice"):
        values = [metric.value for metric in client.get_metric_history(tracked.info.run_id, name)]
        assert values == pytest.approx([float(row[name]) for row in metrics(tmp_path / "out")], abs=1e-6)


def test_a_run_is_resumed_with_as_many_images(trained, resumed, tmp_path):
    """Else its epochs would have the steps of the old images."""
    shutil.copytree(trained[0], tmp_path / "data")
    draw_pairs(tmp_path / "data", 9, "more")
    message = refusal(run, TRAIN, "training", **{**resumed, "dataset_dir": tmp_path / "data"})
    assert re.search(r"has epochs of \d+ steps, which would now be \d+: dataset_dir has other", message)
    assert same(load(trained[1], "last.pt"), load(tmp_path / "out", "last.pt"))


def test_the_best_epoch_is_remembered(resumed, tmp_path):
    """A later one that is worse does not replace its weights."""
    out = tmp_path / "out"
    saved, before = load(out, "last.pt"), (out / "models" / "model.pt").read_bytes()
    saved["best"] |= {"best_metric": 1.5, "best_metric_epoch": 1, "_saved": [(1.5, "model.pt")]}
    torch.save(saved, out / "models" / "last.pt")  # a Dice that cannot be reached
    state = run(TRAIN, "training", **resumed).parser.get_parsed_content("validate#evaluator").state
    assert (state.best_metric, state.best_metric_epoch) == (1.5, 1)
    assert (out / "models" / "model.pt").read_bytes() == before


@pytest.mark.parametrize("names", [[], ["recipes/recommended"]], ids=["polynomial", "warm-up and cosine"])
def test_a_run_that_is_extended_follows_the_longer_schedule(names, options, tmp_path):
    """Two epochs, then four more: the rates of the last four are those of a run of six from the start."""
    files = [*TRAIN, *overlays(*names)]
    run(files, "training", max_epochs=2, **options)
    run(files, "training", max_epochs=6, resume=True, **options)
    run(files, "training", max_epochs=6, **{**options, "output_dir": tmp_path / "alone"})
    rows = (metrics(tmp_path / name)[2:] for name in ("alone", "out"))
    expected, found = ([float(row["learning_rate"]) for row in each] for each in rows)
    assert found == pytest.approx(expected)
    assert min(found) > 0
