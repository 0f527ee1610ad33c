# SPDX-License-Identifier: Apache-2.0
"""The documentation: commands name what exists, and code runs. Links are checked by rumdl in `make style`."""

import contextlib
import functools
import io
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import command

from .conftest import ROOT, draw_pairs, script
from .data.folders import write_image
from .support.workflow import CONFIGS, read_table

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
OVERLAYS = {path.stem: path for folder in ("recipes", "options") for path in (CONFIGS / folder).glob("*.yaml")}
FILE = re.compile(r"\b(?:bundle|docs|scripts|tests|unetv2_monai)/[\w./-]+\.(?:json|yaml|py|pt|txt|md)\b")
OVERLAY = re.compile(r"\b((?:options|recipes)/\w+\.yaml)")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
ELSEWHERE = ("monailabel", "import load")  # code that needs a server, or a package that is not made here


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of a page, with continued lines joined."""
    for block in code(page, "bash"):
        block = re.sub(r"<<'END'.*?^END$", "", block, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
        yield from (shlex.split(line, comments=True) for line in block.splitlines())


@functools.cache
def options_of(file: str) -> set[str]:
    """What ``--help`` of a script names."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        script(Path(file).stem).main(["--help"])
    return set(re.findall(r"--(\w+)", printed.getvalue()))


@functools.cache
def options_of_configs() -> set[str]:
    configs = [ConfigParser.load_config_file(path) for path in (*CONFIGS.glob("*.json"), *OVERLAYS.values())]
    return {key.lstrip("+").split("#")[0] for config in configs for key in config} | {"config_file"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    text = page.read_text()
    missing = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in OVERLAY.findall(text) if not (CONFIGS / name).exists()]
    tests = [(file, test) for file, test in TEST.findall(text) if f"def {test}(" not in (ROOT / file).read_text()]
    assert missing + tests == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_have_the_options_that_they_name(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(command, "weights_file", lambda name: (Path(name), None))  # of a training that was not run
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        real = command.command_of(words[1:]) if words[:1] == ["unetv2"] else words
        flags = [word[2:].split("=")[0].split("#")[0] for word in real if word.startswith("--")]
        file = next((word for word in real if re.fullmatch(r"scripts/\w+\.py", word)), None)
        if words[:1] == ["make"]:
            assert words[1] in targets, words
        elif file:
            assert set(flags) <= options_of(file), words
        elif "monai.bundle" in real and "run" in real:
            assert {*flags[flags.index("config_file") if "torchrun" in real else 0 :]} <= options_of_configs(), words


def test_pages_and_overlays_are_listed():
    index, configs = (DOCS / "README.md").read_text(), (DOCS / "reference" / "configs.md").read_text()
    assert [page for page in DOCS.glob("*/*.md") if f"({page.relative_to(DOCS)}" not in index] == []
    unlisted = [path.name for path in OVERLAYS.values() if path.name not in configs]
    assert [name for name in unlisted if name != "volumes_metadata.yaml"] == []  # MONAI Label's


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """The images that the code of the pages opens; the lesion is a rectangle."""
    frame, mask = np.full((80, 100, 3), 100, np.uint8), np.zeros((80, 100), np.uint8)
    mask[20:50, 30:70] = 255
    for name in ("frames/a.png", "frame.png", "image.jpg"):
        write_image(tmp_path / name, frame)
    write_image(tmp_path / "output" / "masks" / "a.png", mask)
    write_image(tmp_path / "scan.tif", np.full((8, 10), 4095, np.uint16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if code(page, "python")], ids=name_of)
def test_python_runs(page, files):
    for block in code(page, "python"):
        names: dict = {}
        if not any(word in block for word in ELSEWHERE):
            exec(block, names)
        if "heads" in names:
            assert [tuple(head.shape) for head in names["heads"]] == [(2, 1, n, n) for n in (352, 176, 88, 44)]
            assert names["logits"].shape == (1, 1, 288, 384)
        if "probabilities" in names:
            assert names["mask"].shape == (80, 100)
    if (drawn := files / "output" / "overlays" / "a.png").exists():
        image = np.asarray(Image.open(drawn).convert("RGB"))
        assert (image[:20] == 100).all()
        assert (image[20:50, 30:70] != 100).any(axis=-1).all()


@pytest.mark.slow
def test_commands_of_the_tutorial_run(tmp_path):
    """On generated images, with two folds and one epoch; it ends with the scores of one distilled network."""
    for name in ("DIR", "TEST_DIR", "IMAGES", "MORE"):
        draw_pairs(tmp_path / name, 6, name)
    for name in ("IMAGES", "MORE"):
        shutil.rmtree(tmp_path / name / "masks")
    small = ["--max_epochs", "1", "--image_size", "32", "--batch_size", "2", "--warmup_epochs", "0"]
    for words in commands(DOCS / "tutorials" / "folds.md"):
        words = ["2" if word == "5" else word for word in words[1:]]
        command_line = [sys.executable, "-m", "unetv2_monai.command", *words, *(small if "train" in words else [])]
        done = subprocess.run(command_line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr[-2000:])
    output = tmp_path / "output"
    assert "Masks to look at" in (output / "report.html").read_text()
    assert len(read_table(output / "ensemble" / "masks" / "images.csv")) == 6
    assert len(read_table(output / "distilled" / "evaluation" / "scores.csv")) == 6
    last = torch.load(output / "distilled" / "models" / "last.pt", weights_only=True)
    assert last["trainer"]["iteration"] == 5  # five of DIR and six of MORE in batches of two, without the last


def test_sdi_in_other_networks_as_documented():
    names: dict = {}
    exec(code(DOCS / "reference" / "network.md", "python")[-1], names)
    net = names["flexible"]
    out = net(torch.rand(2, 3, 64, 96))
    assert out.shape == (2, 1, 64, 96)
    out.sum().backward()
    infused = [p for name, p in net.named_parameters() if ".sdi." in name]
    assert infused
    assert all(p.grad is not None for p in infused)
