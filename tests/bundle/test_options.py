# SPDX-License-Identifier: Apache-2.0
"""Options are checked before anything is loaded; each wrong one is answered by one sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from unetv2_monai.bundle.option_table import OPTIONS
from unetv2_monai.bundle.options import check_options

from ..conftest import ROOT
from ..support.workflow import CONFIGS, INFERENCE, TRAIN, command, overlays, parsed, refusal

VOLUMES, EARLY_STOP, RECOMMENDED = (
    overlays(name) for name in ("recipes/volumes", "options/early_stop", "recipes/recommended")
)


def check(files: list[str], arguments: str, monkeypatch) -> ConfigParser:
    """What ``check_options`` makes of a command line. Values arrive as Fire passes them."""
    words = arguments.split()
    monkeypatch.setattr(sys, "argv", ["run", "training", "--config_file", files[0], *words])
    parser = parsed(files)
    for name, _, value in (word[2:].partition("=") for word in words):
        try:
            parser[name.replace("-", "_")] = value if value in ("true", "false", "null") else json.loads(value)
        except json.JSONDecodeError:
            parser[name.replace("-", "_")] = value
    check_options(parser)
    return parser


SLABS = [*INFERENCE, *VOLUMES, *overlays("options/inference_slabs")]
FLIPS = [*INFERENCE, *overlays("options/inference_tta")]
AXES = "--flip_axes must be a list of different axes from 0 to 2, or null, got"
RIGHT = [
    "--network_def#channels=8", "--network_def#channels=8 --backbone=pvt_v2_b2",
    "--network_def#backbone_args#drop_path_rate=0.2", "--optimizer#weight_decay=0.1 --learning_rate=0.1",
    "--learning-rate=0.1", "--train#trainer#max_epochs=3", "--train#dataloader#timeout=3",
    "--network#memory_format=$torch.contiguous_format", "--tracking=none", "--val_interval=2",
    "--image_size=[24,40]", "--max_train_images=null", "--device=cpu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        *((TRAIN, arguments) for arguments in RIGHT),
        ([*TRAIN, *VOLUMES], "--image_size=[16,16,16]"),
        ([*INFERENCE, *VOLUMES], "--out_channels=1 --certainty=0.9"),
        (INFERENCE, "--save_probabilities=true"),
    ],
)
def test_right_options(files, arguments, monkeypatch):
    check(files, arguments, monkeypatch)


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        (TRAIN, "--max_epoch=1", "--max_epoch has no effect, since nothing takes it; did you mean --max_epochs?"),
        (TRAIN, "--zzz=1", "takes it; docs/reference/options.md lists the options."),
        (TRAIN, "--learning-ratee=5", "nothing takes it; did you mean --learning_rate?"),
        (TRAIN, "--network_def#channels=8 --bakbone=1", "nothing takes it; did you mean --backbone?"),
        (TRAIN, "--network_def#dropuot=0.1", "nothing takes it; did you mean --network_def#dropout?"),
        (TRAIN, "--train#trainer#max_epoch=3", "nothing takes it; did you mean --train#trainer#max_epochs?"),
        (TRAIN, "--transforms#cropps=[]", "nothing takes it; did you mean --transforms#crops?"),
        (TRAIN, "--optimizer#weight_deacy=0", "nothing takes it; did you mean --optimizer#weight_decay?"),
        ([*TRAIN, *RECOMMENDED], "--encoder_lr_factor=0.1", "these config files do not use it."),
        (TRAIN, "--learning_rate=1e-4x", "--learning_rate must be a number of 0 or more, got '1e-4x'."),
        (TRAIN, "--max_epochs=0", "--max_epochs must be a positive integer, got 0."),
        (TRAIN, "--batch_size=true", "--batch_size must be a positive integer, got True."),
        (TRAIN, "--image_size=-5", "must be a positive integer, or a list of two or three, got -5."),
        (TRAIN, '--image_size="256"', "must be a positive integer, or a list of two or three, got '256'."),
        (TRAIN, "--image_size=[16,16,16]", "an integer or a list of 2 for this network, got [16, 16, 16]."),
        ([*TRAIN, *VOLUMES], "--image_size=[16,16]", "an integer or a list of 3 for this network, got [16, 16]."),
        (TRAIN, "--val_fraction=1", "--val_fraction must be a number above 0 and below 1, got 1."),
        (TRAIN, "--cache_rate=2", "--cache_rate must be a number from 0 to 1, got 2."),
        (TRAIN, "--resume=yes", "--resume must be true or false, got 'yes'."),
        (TRAIN, "--max_train_images=0", "--max_train_images must be a positive integer, or null, got 0."),
        (TRAIN, "--device=gpu", "--device must be a device such as cpu, cuda or cuda:1, got 'gpu'."),
        (INFERENCE, "--device=cuda", "--device cuda: PyTorch finds no GPU"),
        ([*TRAIN, *EARLY_STOP], "--patience=0", "--patience must be a positive integer, got 0."),
        ([*INFERENCE, *VOLUMES], "--spacing=[1,1]", "must be a list of three numbers above 0, or null, got [1, 1]."),
        ([*INFERENCE, *VOLUMES], "--intensity=pet", "--intensity must be mr or ct, got 'pet'."),
        ([*INFERENCE, *VOLUMES], "--window_width=0", "--window_width must be a number above 0, got 0."),
        *((FLIPS, f"--flip_axes={axes}", AXES) for axes in ("[3]", "[0,0]", "[-1]", "[0.5]", "left")),
        (SLABS, "--save_probabilities=true", "these config files do not use it."),
        (INFERENCE, "--save_probabilities=true --out_channels=3", "so images need --out_channels 1"),
    ],
)
def test_wrong_options(files, arguments, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert message in refusal(check, files, arguments, monkeypatch)


def test_values_of_own_files(tmp_path, monkeypatch):
    """They are checked too, but may use the names of overlays otherwise."""
    own = tmp_path / "mine.yaml"
    own.write_text("weights: [0.3, 0.7]\nloss#weights: '@weights'\n")
    check([*TRAIN, str(own)], "", monkeypatch)
    own.write_text("batch_size: many\n")
    message = refusal(check, [*TRAIN, str(own)], "", monkeypatch)
    assert message == "--batch_size must be a positive integer, got 'many'."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_epoch: 1", "the key max_epoch in a config file has no effect, .* did you mean max_epochs?"),
        ("transforms#contrst: {_target_: Identityd, keys: image}", "transforms#contrst .* mean transforms#contrast?"),
        ("network_def#dropuot: 0.3", "network_def#dropuot .* mean network_def#dropout?"),
        ("patience: 3", "patience .* it is for options/early_stop."),
    ],
)
def test_misspelt_keys_of_own_files(content, message, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(content)
    assert re.search(message, refusal(check, [*TRAIN, str(tmp_path / "mine.yaml")], "", monkeypatch))
    check([*TRAIN, *RECOMMENDED, *EARLY_STOP], "", monkeypatch)


@pytest.mark.parametrize("name", ["2024", "left,right", "1e3", "None", "true", "[x]", "@d", "$x"])
def test_folders_that_fire_or_monai_would_read_otherwise(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for words in (["--dataset_dir", name], [f"--dataset_dir={name}"]):
        monkeypatch.setattr(sys, "argv", ["run", "training", *words])
        value = DefaultParseValue(name)
        parser = parsed(TRAIN, **({} if value is None else {"dataset_dir": value}))
        check_options(parser)
        assert Path(parser.get_parsed_content("dataset_dir")).resolve() == tmp_path / name


def test_words_of_the_command_line(monkeypatch):
    """Fire leaves true, false and null as text, and every text but the empty one is true."""
    options = "--pretrained=true --check_data=false --max_train_images=null --network_def#sdi=false"
    parser = check(TRAIN, options, monkeypatch)
    for key, value in (("pretrained", True), ("check_data", False), ("max_train_images", None)):
        assert parser[key] is value
        assert parser.get_parsed_content(key) is value
    assert parser["network_def"]["sdi"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": '"256"'}, "error: --image_size must be a positive integer, or a list of two or three, got"),
        ({"tracking": "mlflow"}, "error: --tracking mlflow: MLflow is not installed. Run: pip install mlflow"),
        ({"dataset_dir": "docs"}, "error: --dataset_dir docs holds no images and masks."),
    ],
)
def test_one_sentence_on_the_command_line(options, message, pairs, tmp_path):
    """Through Fire, with data that would do."""
    hide = "import runpy, sys; sys.modules['mlflow'] = None;"
    hide += "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    options = {"dataset_dir": pairs, "output_dir": tmp_path / "out", **options}
    words = command(TRAIN, "training", **options)[2:]  # without -m monai.bundle
    done = subprocess.run([sys.executable, "-c", hide, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "models").exists()


def test_the_table_names_the_options_of_the_configs():
    sections = {name: [CONFIGS / f"{name}.json"] for name in ("train", "evaluate", "inference")}
    for section, table in OPTIONS.items():
        for name, option in table.items():
            for path in sections.get(section) or overlays(*option.files):
                value = ConfigParser.load_config_file(str(path))[name]
                computed = str(value).startswith("$")
                assert computed or option.kind.accepts(value), name
                assert not computed or option.default or section == "overlays", name  # the reference needs its words
            assert option.files or section != "overlays", name
