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
from ..support.workflow import CONFIGS, TRAIN, cases, command, configs, overlays, parsed, refusal


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


@pytest.mark.parametrize(("names", "arguments"), cases("options", "right"))
def test_right_options(names, arguments, monkeypatch):
    check(configs(names), arguments, monkeypatch)


@pytest.mark.parametrize(("names", "arguments", "message"), cases("options", "wrong"))
def test_wrong_options(names, arguments, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert message in refusal(check, configs(names), arguments, monkeypatch)


def test_values_of_own_files(tmp_path, monkeypatch):
    """They are checked too, but may use the names of overlays otherwise."""
    own = tmp_path / "mine.yaml"
    own.write_text("weights: [0.3, 0.7]\nloss#weights: '@weights'\n")
    check([*TRAIN, str(own)], "", monkeypatch)
    own.write_text("batch_size: many\n")
    message = refusal(check, [*TRAIN, str(own)], "", monkeypatch)
    assert message == "--batch_size must be a positive integer, got 'many'."


@pytest.mark.parametrize(("content", "message"), cases("options", "misspelt"))
def test_misspelt_keys_of_own_files(content, message, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(content)
    assert re.search(message, refusal(check, [*TRAIN, str(tmp_path / "mine.yaml")], "", monkeypatch))
    check(configs("train recipes/recommended options/early_stop"), "", monkeypatch)


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


@pytest.mark.parametrize(("options", "message"), cases("options", "printed"))
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
