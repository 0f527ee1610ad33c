# SPDX-License-Identifier: Apache-2.0
"""Options are checked before anything is loaded; each wrong one is answered by one sentence."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from monai.bundle import ConfigParser

from unetv2_monai.bundle.option_table import OPTIONS
from unetv2_monai.bundle.options import check_options

from ..support.workflow import CONFIGS, INFERENCE, TRAIN, root_error


def check(files: list[str], arguments: list[str], monkeypatch) -> ConfigParser:
    """What ``check_options`` makes of a command line. Values arrive as Fire passes them."""
    monkeypatch.setattr(sys, "argv", ["run", "training", "--config_file", files[0], *arguments])
    parser = ConfigParser()
    parser.read_config(files)
    for name, _, value in (argument[2:].partition("=") for argument in arguments):
        try:
            parser[name.replace("-", "_")] = json.loads(value)
            if value in ("true", "false", "null"):
                parser[name.replace("-", "_")] = value
        except json.JSONDecodeError:
            parser[name.replace("-", "_")] = value
    check_options(parser)
    return parser


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--max_epoch=1", "there is no option --max_epoch; did you mean --max_epochs?"),
        ("--zzz=1", "there is no option --zzz. docs/reference/options.md lists them."),
        ("--learning-ratee=5", "there is no option --learning_ratee; did you mean --learning_rate?"),
        ("--network_def#channels=8 --bakbone=1", "there is no option --bakbone; did you mean --backbone?"),
        (
            "--network_def#dropuot=0.1",
            "there is no option --network_def#dropuot; did you mean --network_def#dropout?",
        ),
        (
            "--train#trainer#max_epoch=3",
            "there is no option --train#trainer#max_epoch; did you mean --train#trainer#max_epochs?",
        ),
        ("--transforms#cropps=[]", "there is no option --transforms#cropps; did you mean --transforms#crops?"),
        (
            "--optimizer#weight_deacy=0",
            "there is no option --optimizer#weight_deacy; did you mean --optimizer#weight_decay?",
        ),
    ],
)
def test_misspelt_options(option, message, monkeypatch):
    with pytest.raises(Exception) as info:  # noqa: PT011 - MONAI's own error types, looked through below
        check(TRAIN, option.split(), monkeypatch)
    assert str(root_error(info)) == message


@pytest.mark.parametrize(
    "option",
    [
        "--network_def#channels=8",
        "--network_def#channels=8 --backbone=pvt_v2_b2",
        "--network_def#backbone_args#drop_path_rate=0.2",
        "--optimizer#weight_decay=0.1 --learning_rate=0.1",
        "--learning-rate=0.1",
        "--train#trainer#max_epochs=3",
        "--train#dataloader#timeout=3",
        "--network#memory_format=$torch.contiguous_format",
        "--tracking=none",
        "--val_interval=2",
        "--image_size=[24,40]",
        "--max_train_images=null",
        "--device=cpu",
    ],
)
def test_right_options(option, monkeypatch):
    check(TRAIN, option.split(), monkeypatch)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--learning_rate=1e-4x", "--learning_rate must be a number of 0 or more, got '1e-4x'."),
        ("--max_epochs=0", "--max_epochs must be a positive integer, got 0."),
        ("--batch_size=0", "--batch_size must be a positive integer, got 0."),
        ("--image_size=-5", "--image_size must be a positive integer, or a list of two or three, got -5."),
        ('--image_size="256"', "--image_size must be a positive integer, or a list of two or three, got '256'."),
        ("--val_fraction=1", "--val_fraction must be a number above 0 and below 1, got 1."),
        ("--cache_rate=2", "--cache_rate must be a number from 0 to 1, got 2."),
        ("--resume=yes", "--resume must be true or false, got 'yes'."),
        ("--max_train_images=0", "--max_train_images must be a positive integer, or null, got 0."),
        ("--batch_size=true", "--batch_size must be a positive integer, got True."),
        ("--device=gpu", "--device must be a device such as cpu, cuda or cuda:1, got 'gpu'."),
    ],
)
def test_wrong_values(option, message, monkeypatch):
    with pytest.raises(Exception) as info:  # noqa: PT011
        check(TRAIN, [option], monkeypatch)
    assert str(root_error(info)).startswith(message)


def test_values_of_files_are_checked_too(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("batch_size: many\n")
    with pytest.raises(Exception) as info:  # noqa: PT011
        check([*TRAIN, str(tmp_path / "mine.yaml")], [], monkeypatch)
    assert str(root_error(info)) == "--batch_size must be a positive integer, got 'many'."


def test_own_files_may_use_the_names_of_overlays(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("weights: [0.3, 0.7]\nloss#weights: '@weights'\n")
    check([*TRAIN, str(tmp_path / "mine.yaml")], [], monkeypatch)
    with pytest.raises(Exception) as info:  # noqa: PT011
        check([*TRAIN, str(CONFIGS / "options" / "early_stop.yaml")], ["--patience=0"], monkeypatch)
    assert str(root_error(info)) == "--patience must be a positive integer, got 0."


def test_a_size_for_each_dimension(monkeypatch):
    recipe = str(CONFIGS / "recipes" / "volumes.yaml")
    check([*TRAIN, recipe], ["--image_size=[16,16,16]"], monkeypatch)
    for files, size, dims in (([*TRAIN, recipe], [16, 16], 3), (TRAIN, [16, 16, 16], 2)):
        with pytest.raises(Exception) as info:  # noqa: PT011
            check(files, [f"--image_size={size}"], monkeypatch)
        expected = f"--image_size must be an integer or a list of {dims} for this network, got {size}."
        assert str(root_error(info)) == expected


def test_an_option_of_images_on_volumes(monkeypatch):
    files = [str(CONFIGS / "inference.json"), str(CONFIGS / "recipes" / "volumes.yaml")]
    with pytest.raises(Exception) as info:  # noqa: PT011
        check(files, ["--save_probabilities=true"], monkeypatch)
    assert str(root_error(info)).startswith("--save_probabilities true needs images")
    check(files, ["--out_channels=1", "--certainty=0.9"], monkeypatch)


def test_an_option_that_a_recipe_took_away(monkeypatch):
    with pytest.raises(Exception) as info:  # noqa: PT011
        check([*TRAIN, str(CONFIGS / "recipes" / "recommended.yaml")], ["--encoder_lr_factor=0.1"], monkeypatch)
    assert "--encoder_lr_factor has no effect with these config files" in str(root_error(info))


def test_probabilities_of_several_classes_fit_into_no_png(monkeypatch):
    with pytest.raises(Exception) as info:  # noqa: PT011
        check(INFERENCE, ["--save_probabilities=true", "--out_channels=3"], monkeypatch)
    assert str(root_error(info)).startswith("--save_probabilities true needs images and --out_channels 1")
    check(INFERENCE, ["--save_probabilities=true"], monkeypatch)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(Exception) as info:  # noqa: PT011
        check(INFERENCE, ["--device=cuda"], monkeypatch)
    assert "--device cuda: PyTorch finds no GPU" in str(root_error(info))


def test_words_of_the_command_line(monkeypatch):
    """Fire leaves true, false and null as text, and every text but the empty one is true."""
    options = ["--pretrained=true", "--check_data=false", "--max_train_images=null", "--network_def#sdi=false"]
    parser = check(TRAIN, options, monkeypatch)
    for key, value in (("pretrained", True), ("check_data", False), ("max_train_images", None)):
        assert parser[key] is value
        assert parser.get_parsed_content(key) is value
    assert parser["network_def"]["sdi"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning-ratee", "5"], "error: there is no option --learning_ratee; did you mean --learning_rate?"),
        (["--learning_rate", "1e-4x"], "error: --learning_rate must be a number of 0 or more, got '1e-4x'."),
        (
            ["--image_size", '"256"'],
            "error: --image_size must be a positive integer, or a list of two or three, got '256'.",
        ),
        (["--network_def#dropuot", "0.1"], "error: there is no option --network_def#dropuot; did you mean"),
        (["--tracking", "mlflow"], "error: --tracking mlflow: MLflow is not installed. Run: pip install mlflow"),
    ],
)
def test_one_sentence_on_the_command_line(options, message, pairs, tmp_path):
    """Through Fire, with data that would do."""
    hide = "import runpy, sys; sys.modules['mlflow'] = None;"
    hide += "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", hide, "run", "training", "--config_file", TRAIN[0]]
    command += ["--dataset_dir", str(pairs), "--output_dir", str(tmp_path / "out"), *options]
    done = subprocess.run(command, cwd=CONFIGS.parents[1], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "models").exists()


def test_options_of_overlays_are_in_their_files():
    for option, entry in OPTIONS["overlays"].items():
        for name in entry.files:
            content = ConfigParser.load_config_file(str(CONFIGS / f"{name}.yaml"))
            assert str(content[option]).startswith("$") or entry.kind.accepts(content[option])
        assert entry.files


def test_the_table_names_the_options_of_the_configs():
    for name in ("train", "evaluate", "inference"):
        config = json.loads((CONFIGS / f"{name}.json").read_text())
        for option, entry in OPTIONS[name].items():
            assert option in config
            value = config[option]
            assert str(value).startswith("$") or entry.kind.accepts(value), option
            assert not str(value).startswith("$") or entry.default, (
                f"{option}: the reference needs its default in words"
            )
