# SPDX-License-Identifier: Apache-2.0
"""Long runs: killed, resumed, stopped, watched."""

from __future__ import annotations

import csv
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
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, RandFlip

from unetv2_monai.core.files import write_atomic
from unetv2_monai.handlers.runs import EpochSeed

from ..conftest import draw_pair
from ..support.workflow import CONFIGS, TINY, TRAIN, root_error, run

OVERLAYS = [str(CONFIGS / f"{name}.yaml") for name in ("recipes/recommended", "options/ema")]
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["monai.bundle", "unetv2_monai", "timm", "tests.support.workflow"])


def train(files: list[str], options: dict, log: str) -> None:
    """The training of a child process, quiet."""
    with open(log, "a") as opened:
        os.dup2(opened.fileno(), 1)
        os.dup2(opened.fileno(), 2)
    torch.set_num_threads(1)
    run(files, "training", **options)


def start(files: list[str], options: dict, log: Path) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=train, args=(files, options, str(log)))
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
    with (folder / "metrics.csv").open(newline="") as opened:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(opened)]


@pytest.mark.parametrize(
    ("overlays", "kills"),
    [
        ([], 4),
        pytest.param([], 20, marks=pytest.mark.slow),
        pytest.param(OVERLAYS, 20, marks=pytest.mark.slow),
    ],
    ids=["short", "long", "long, recommended and moving average"],
)
def test_a_run_killed_many_times_ends_as_one_left_alone(overlays, kills, trained, tmp_path):
    data, _ = trained
    options = {"dataset_dir": str(data), "max_epochs": 2 * kills, "check_data": False, **TINY}
    files, draw = [*TRAIN, *overlays], random.Random(kills)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    began = time.monotonic()
    process = start(files, {**options, "output_dir": str(alone)}, tmp_path / "alone.log")
    while not (alone / "metrics.csv").exists() and process.is_alive():
        time.sleep(0.01)
    first_epoch = time.monotonic() - began
    process.join()
    assert process.exitcode == 0, (tmp_path / "alone.log").read_text()[-2000:]
    per_epoch = (time.monotonic() - began - first_epoch) / (2 * kills - 1)

    done = 0
    for _ in range(10 * kills):
        resume = (killed / "models" / "last.pt").exists()
        process = start(files, {**options, "output_dir": str(killed), "resume": resume}, tmp_path / "killed.log")
        if done < kills:
            epochs = len(metrics(killed)) if (killed / "metrics.csv").exists() else 0
            while process.is_alive() and (
                len(metrics(killed)) <= epochs if (killed / "metrics.csv").exists() else True
            ):
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


def test_full_disk(trained, tmp_path):
    data, out = trained
    models = tmp_path / "models"
    models.mkdir()
    (models / "last.pt").write_bytes((out / "models" / "last.pt").read_bytes())
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), "max_epochs": 3, "resume": True, **TINY}
    process = SPAWN.Process(target=small_files, args=(TRAIN, options, str(tmp_path / "log")))
    process.start()
    process.join()
    assert process.exitcode == 1
    log = (tmp_path / "log").read_text()
    assert "last.pt cannot be written" in log or "model.pt cannot be written" in log
    assert same(load(out, "last.pt"), load(tmp_path, "last.pt"))
    assert not list(models.glob("*.partial"))


def test_folder_that_cannot_be_written(trained, tmp_path):
    data, _ = trained
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", dataset_dir=str(data), output_dir=str(tmp_path / "file" / "out"), max_epochs=1, **TINY)
    assert "Set --output_dir" in str(root_error(info))


def test_runs_do_not_overwrite_each_other(trained):
    data, out = trained
    before = (out / "models" / "last.pt").read_bytes()
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", dataset_dir=str(data), output_dir=str(out), max_epochs=1, **TINY)
    assert "holds a run already" in str(root_error(info))
    assert (out / "models" / "last.pt").read_bytes() == before


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
def test_a_signal_ends_cleanly_and_changes_nothing(number, trained, tmp_path):
    data, _ = trained
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), **TINY}
    process = start(TRAIN, {**options, "max_epochs": 500}, tmp_path / "log")
    while not (tmp_path / "models" / "last.pt").exists() and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join()
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 128 + number, log[-2000:]
    assert f"stopped by {number.name}; go on with --resume true" in log
    assert "Traceback" not in log
    saved = load(tmp_path, "last.pt")["trainer"]
    assert saved["iteration"] % saved["epoch_length"] == 0


def test_loss_that_is_no_number(trained, tmp_path):
    data, _ = trained
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), "max_epochs": 2, **TINY}
    bad = {"loss": {"_target_": "tests.support.networks.NaNLoss", "after": 3}}
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", **options, **bad)
    assert re.match(r"the loss is nan in epoch 2, iteration 3, on .*case_", str(root_error(info)))
    kept = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert kept["image"].shape == (2, 3, 32, 32)
    assert kept["label"].shape == (2, 1, 32, 32)
    assert (kept["epoch"], kept["iteration"]) == (2, 3)
    assert all(Path(path).is_file() for path in kept["path"])
    assert load(tmp_path, "last.pt")["trainer"]["iteration"] == 2


def test_randomness_of_an_epoch_depends_on_seed_rank_and_epoch():
    def draw(seed: int, rank: int, epoch: int) -> tuple:
        transform, engine = Compose([RandFlip(prob=0.5)]), Engine(lambda engine, batch: None)
        EpochSeed(seed, rank, transform).attach(engine)
        engine.state.epoch = epoch
        engine._fire_event(Events.EPOCH_STARTED)
        own = transform.transforms[0].R.rand()
        return (random.random(), np.random.rand(), torch.rand(1).item(), own)

    first = draw(1, 0, 5)
    assert draw(1, 0, 5) == first
    for other in ((5, 0, 1), (1, 1, 5), (1, 0, 6), (0, 0, 6)):
        assert not set(draw(*other)) & set(first)


def test_early_stop_counts_on_when_resumed(trained, tmp_path):
    """A network that does not change: best in validation 1, the third without a better one is validation 4."""
    data, _ = trained
    files = [*TRAIN, str(CONFIGS / "options" / "early_stop.yaml")]
    still = {"network_def": {"_target_": "tests.support.networks.Bright"}, "optimizer#params": "$@network.parameters()"}
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), "patience": 3, **TINY, **still}
    options = {key: value for key, value in options.items() if "#channels" not in key} | {"learning_rate": 0.0}
    run(files, "training", max_epochs=2, **options)
    flow = run(files, "training", max_epochs=10, resume=True, **options)
    assert flow.parser.get_parsed_content("train#trainer").state.epoch == 4
    assert load(tmp_path, "last.pt")["early_stop"]["counter"] == 3


def test_time_limit(trained, tmp_path):
    data, _ = trained
    files = [*TRAIN, str(CONFIGS / "options" / "time_limit.yaml")]
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), "max_epochs": 500, "max_hours": 0, **TINY}
    flow = run(files, "training", **options)
    assert 1 <= flow.parser.get_parsed_content("train#trainer").state.epoch < 100


def test_a_time_limit_and_tracking_may_be_added_when_resumed(trained, tmp_path):
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    files = [*TRAIN, str(CONFIGS / "options" / "time_limit.yaml")]
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "max_epochs": 3, "resume": True, **TINY}
    flow = run(files, "training", **options)
    assert flow.parser.get_parsed_content("train#trainer").state.epoch == 3


def test_the_state_of_mixed_precision_fits_every_device(trained):
    """A run that was begun on a CPU goes on on a GPU."""
    _, out = trained
    torch.amp.GradScaler("cpu", enabled=True).load_state_dict(load(out, "last.pt")["scaler"])


@pytest.mark.slow
def test_mlflow(trained, tmp_path):
    """MONAI's own switch: all metrics of all epochs are tracked."""
    mlflow = pytest.importorskip("mlflow")
    data, _ = trained
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", TRAIN[0]]
    options = {"dataset_dir": data, "output_dir": tmp_path, "max_epochs": 2, "tracking": "mlflow", **TINY}
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    (tracked,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    for name in ("train_mean_loss", "val_mean_dice"):
        values = [metric.value for metric in client.get_metric_history(tracked.info.run_id, name)]
        assert values == pytest.approx([float(row[name]) for row in metrics(tmp_path)], abs=1e-6)


def test_a_run_is_resumed_by_its_own_options(trained, tmp_path):
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    before = (tmp_path / "out" / "run.json").read_bytes()
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "max_epochs": 2, "resume": True, **TINY}
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", **{**options, "image_size": 64, "batch_size": 4})
    assert "was begun with image_size [32, 32], now [64, 64]; batch_size 2, now 4" in str(root_error(info))
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", **{**options, "optimizer#weight_decay": 0.5})
    assert "was begun with optimizer#weight_decay 0.0001, now 0.5. Resume" in str(root_error(info))
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    assert (tmp_path / "out" / "models" / "last.pt").read_bytes() == (out / "models" / "last.pt").read_bytes()


def test_a_run_is_resumed_with_as_many_images(trained, tmp_path):
    """Else its epochs would have the steps of the old images."""
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(data, tmp_path / "data")
    for index in range(9):
        draw_pair(tmp_path / "data", f"more_{index}", 48, 48, seed=index)
    options = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "resume": True, **TINY}
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(TRAIN, "training", max_epochs=4, **options)
    assert re.search(r"has epochs of \d+ steps, which would now be \d+: dataset_dir has other", str(root_error(info)))
    assert (tmp_path / "out" / "models" / "last.pt").read_bytes() == (out / "models" / "last.pt").read_bytes()


def test_the_best_epoch_is_remembered(trained, tmp_path):
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    saved = load(tmp_path / "out", "last.pt")
    saved["best"] |= {"best_metric": 0.9876, "best_metric_epoch": 1}
    torch.save(saved, tmp_path / "out" / "models" / "last.pt")
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "max_epochs": 3, "resume": True, **TINY}
    state = run(TRAIN, "training", **options).parser.get_parsed_content("validate#evaluator").state
    assert (state.best_metric, state.best_metric_epoch) == (0.9876, 1)


@pytest.mark.parametrize("overlays", [[], OVERLAYS[:2]], ids=["polynomial", "warm-up and cosine"])
def test_a_run_that_is_extended_follows_the_longer_schedule(overlays, trained, tmp_path):
    """Two epochs, then four more: the rates of the last four are those of a run of six from the start."""
    data, _ = trained
    options = {"dataset_dir": str(data), "check_data": False, **TINY}
    files = [*TRAIN, *overlays]
    run(files, "training", output_dir=str(tmp_path / "alone"), max_epochs=6, **options)
    run(files, "training", output_dir=str(tmp_path / "longer"), max_epochs=2, **options)
    run(files, "training", output_dir=str(tmp_path / "longer"), max_epochs=6, resume=True, **options)
    expected, found = (
        [float(row["learning_rate"]) for row in metrics(tmp_path / name)] for name in ("alone", "longer")
    )
    assert found[2:] == pytest.approx(expected[2:])
    assert min(found[2:]) > 0
