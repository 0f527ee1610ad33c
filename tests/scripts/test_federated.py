# SPDX-License-Identifier: Apache-2.0
"""MONAI's federated client on the bundle as it is, and the job of scripts/federated.py in NVIDIA FLARE's simulator."""

import shutil
import sys
from argparse import Namespace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from common.options import values_of
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from unetv2_monai import InputError, UNetV2

from ..conftest import draw_pairs, read_table, run_script, script
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, TINY


@pytest.fixture
def algo(tmp_path) -> MonaiAlgo:
    """With the default files of MonaiAlgo."""
    bundle = Path(shutil.copytree(CONFIGS.parent, tmp_path / "bundle", ignore=shutil.ignore_patterns("models")))
    draw_pairs(tmp_path / "data", 5)
    options = {"dataset_dir": str(tmp_path / "data"), **TINY}
    algo = MonaiAlgo(str(bundle), train_kwargs=dict(options), eval_kwargs=dict(options))
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site-1"})
    return algo


def test_rounds_of_one_epoch(algo, tmp_path):
    weights = UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict()
    rates = []
    for _ in range(3):
        start = {key: value.clone() for key, value in weights.items()}
        algo.train(ExchangeObject(weights=start))
        rates.append(algo.trainer.optimizer.param_groups[0]["lr"])
        sent = algo.get_weights()
        assert sent.weight_type == WeightType.WEIGHT_DIFF
        assert sent.weights.keys() == weights.keys()
        trained = algo.trainer.network.state_dict()
        for key in ("encoder.model.conv_stem.weight", "heads.0.weight"):
            assert sent.weights[key].abs().max() > 0
            torch.testing.assert_close(start[key] + sent.weights[key], trained[key])
        weights = trained
    assert algo.trainer.state.epoch == 3
    # a schedule over the epochs of one round would be at 0 after the first
    assert rates == pytest.approx([0.001 * (1 - epoch / 30) ** 0.9 for epoch in (1, 2, 3)])
    assert set(algo.evaluate(ExchangeObject(weights=weights)).metrics) >= {"val_mean_dice", "val_mean_iou", "val_mae"}
    best = algo.get_weights(extra={ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
    assert best.weights.keys() == weights.keys()
    assert (tmp_path / "bundle" / "models" / "model.pt").is_file()


@pytest.mark.slow
def test_two_sites_together_beat_each_alone(real_data, tmp_path):
    """200 polyps a site, taken in order so that the sites differ; the held-out 162 are no site's."""
    pytest.importorskip("nvflare")
    polyps = real_data / "polyp"
    printed = run_script(
        "federated.py", "--dataset_dir", polyps, "--test_dir", polyps, "--output_dir", tmp_path / "out", "--in_order",
        "--rounds", 20, "--images_per_site", 200, "--set", "image_size=96", "batch_size=8", "check_data=false",
    )  # fmt: skip
    dice = {row["weights"]: float(row["dice"]) for row in read_table(tmp_path / "out" / "scores.csv")}
    print(printed.split("\n\n")[-1])
    assert list(dice) == ["federated", "site-1 alone", "site-2 alone"]
    assert dice["federated"] > max(dice["site-1 alone"], dice["site-2 alone"])


def test_sites_in_order_differ(tmp_path):
    """Each has neighbours by name, not every second image."""
    draw_pairs(tmp_path, 6)
    arguments = Namespace(dataset_dir=tmp_path, images_per_site=None, sites=2, in_order=True)
    names = [[Path(item["image"]).name for item in share] for share in script("federated").split(arguments, {})]
    assert [len(share) for share in names] == [3, 3]
    assert names[0] + names[1] == sorted(names[0] + names[1])


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path, monkeypatch, capsys):
    draw_pairs(tmp_path / "data", 5)
    command = script("federated")
    monkeypatch.setitem(sys.modules, "nvflare", None)  # not installed
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)

    def end(*options: str, out: Path = tmp_path / "out") -> str:
        folders = ["--dataset_dir", str(tmp_path / "data"), "--test_dir", str(tmp_path), "--output_dir", str(out)]
        with pytest.raises((InputError, SystemExit)) as info:
            command.main([*folders, *options])
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err + str(info.value)

    assert "nvflare is missing: pip install" in end()
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: name)
    for option in ("--sites", "--rounds", "--local_epochs", "--images_per_site"):
        assert f"argument {option}: 0 is no whole number above 0" in end(option, "0")
    few = "has 5 training pairs, too few for"
    assert f"{few} 3 sites of 2: name fewer --sites." in end("--sites", "3")
    assert f"{few} 2 sites of 4: name fewer --sites or --images_per_site." in end("--images_per_site", "4")
    assert "takes no spaces" in end("--set", "image_size=[32, 32]")
    assert "exists. Name another --output_dir" in end(out=tmp_path)


def test_sites_read_options_as_the_other_commands_do(monkeypatch):
    for name in ("nvflare.client", "nvflare.apis.fl_constant", "nvflare.app_common.abstract.fl_model"):
        for end in range(1, name.count(".") + 2):
            monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:end]), MagicMock())
    option = script("federated_client").option
    texts = {"learning_rate": "1e-4", "a": "-2E+3", "b": "1.5e-3", "c": "[1, 2]", "d": "true", "e": "x=y", "f": ""}
    found = dict(option(f"{key}={text}") for key, text in texts.items())
    assert found == values_of(texts)
    assert found["learning_rate"] == 0.0001
