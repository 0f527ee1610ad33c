# SPDX-License-Identifier: Apache-2.0
"""What the commands share: options, configs, commands of the bundle, tables, figures and pages."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest
from common import figures
from common.bundle import read_config, run_bundle
from common.command import run
from common.options import add_set, refuse_unknown, values_of
from common.pages import render
from common.tables import markdown

from unetv2_monai import InputError

from ..conftest import ROOT, script


def parse(*arguments: str) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_set(parser, "options")
    return parser.parse_args(arguments).set


def test_values_are_yaml():
    texts = parse("--set", "backbone=pvt_v2_b2", "image_size=[288, 384]", "sdi=false", "rate=1e-4", "text=a=b", "none=")
    assert values_of(texts) == {
        "backbone": "pvt_v2_b2", "image_size": [288, 384], "sdi": False, "rate": 0.0001, "text": "a=b", "none": None,
    }  # fmt: skip
    assert parse("--set", "a=1", "b=2", "--set", "a=3") == {"a": "3", "b": "2"}
    assert parse() == {}  # the default is not filled by an earlier call


def test_a_value_that_is_not_yaml():
    with pytest.raises(InputError, match=r"--set image_size=\[1: the value is not valid YAML"):
        values_of({"image_size": "[1"})


def test_unknown_options_are_refused():
    configs = {"image_size": 256}, {"network_def": {}}
    refuse_unknown(["image_size", "network_def#dropout"], *configs)
    with pytest.raises(InputError, match="--set bakbone: not an option of the configs"):
        refuse_unknown(["image_size", "bakbone"], *configs)


def test_label_server_shows_errors_that_are_no_input_errors(tmp_path, monkeypatch):
    server = script("label_server")

    def fail(arguments):
        raise ValueError("a bug")

    monkeypatch.setattr(server, "use_label_environment", lambda: None)
    monkeypatch.setattr("label_start.prepare_images", fail)
    options = ["--port", "0", "--work_dir", str(tmp_path / "work"), "--images"]
    with pytest.raises(ValueError, match=r"^a bug$"):
        run(lambda: server.main([*options, str(tmp_path)]))
    with pytest.raises(SystemExit) as ended:
        run(lambda: server.main([*options, str(tmp_path / "absent")]))
    assert ended.value.code == f"error: --images {tmp_path / 'absent'} is not a folder."


@pytest.mark.parametrize("name", ["label_server", "report"])
def test_a_command_can_be_imported_without_its_extras(name):
    """label_server.py starts in any Python; report.py is imported where matplotlib is missing."""
    blocked = {"label_server": ["torch", "monai", "yaml", "unetv2_monai"], "report": ["matplotlib"]}[name]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {name}; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "scripts")
    assert (done.stdout, done.returncode) == ("imported\n", 0), done.stderr


def test_matplotlib_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="matplotlib is missing: pip install matplotlib"):
        figures.new_figure(4, 3)


def test_a_table_has_all_columns():
    assert markdown([{"a": 1, "b": "x"}, {"b": "y", "c": 2.5}]).splitlines() == [
        "| a | b | c |", "|---|---|---|", "| 1 | x | - |", "| - | y | 2.5 |",
    ]  # fmt: skip


def test_a_command_of_the_bundle_that_fails_is_named(tmp_path):
    with pytest.raises(InputError, match=r"(?s)^inference failed, see .*log: .*holds no image"):
        run_bundle("inference", ["inference.json"], {"dataset_dir": tmp_path}, log=tmp_path / "log")


def test_a_config_with_an_overlay_and_options():
    parser = read_config(["train.json", "recipes/paper.yaml"], {"seed": 5, "network_def#dropout": 0.25})
    assert (parser["backbone"], parser["seed"], parser["network_def#dropout"]) == ("pvt_v2_b2", 5, 0.25)


def test_pages_escape_what_they_show():
    groups = {name: {"by_size": [["<b>", 1]], "empty": 0, "marked": 0} for name in ("<i>", "b")}
    failures = {"limit": 0.5, "groups": groups, "poor": [], "more": 0}
    text = render("failures.html.j2", failures=failures)
    assert "<td>&lt;b&gt;</td><td>1</td>" in text
    assert "<h3>&lt;i&gt;</h3>" in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_a_command_ends_with_the_one_that_runs_it(tmp_path):
    python, number = tmp_path / "python", tmp_path / "number"
    python.write_text(f"#!/bin/sh\necho $$ > {number}.part\nmv {number}.part {number}\nexec sleep 60\n")
    python.chmod(0o755)
    own = f"from common import bundle; bundle.sys.executable = {str(python)!r}; bundle.run_bundle('training', [], {{}})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    outer = subprocess.Popen([sys.executable, "-c", own], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if number.exists():
            break
        time.sleep(0.1)
    outer.terminate()
    assert outer.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)
