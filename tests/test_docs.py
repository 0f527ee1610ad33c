# SPDX-License-Identifier: Apache-2.0
"""The documentation: links lead somewhere, commands name what exists, code runs, overlays are listed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from .conftest import ROOT
from .support.workflow import CONFIGS

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bundle" / "docs" / "README.md", *DOCS.rglob("*.md")]
REPOSITORY = [page for page in PAGES if "bundle" not in page.parts]  # the model card speaks of a packed bundle
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = re.compile(r"\b(?:bundle|docs|scripts|tests|unetv2_monai)/[\w./-]+\.(?:json|yaml|py|pt|txt|md)\b")
OVERLAY = re.compile(r"\b(?:options|recipes)/\w+\.yaml")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code, whose comments look like headings."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def code(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    titles = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(prose(page)):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
    return broken


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of a page, with continued lines joined."""
    for block in code(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title: `code`, and more\n\n[a](page.md) [b](none.md) ![c](#a-title-code-and-more) [d](page.md#none)\n"
        "```bash\n# [e](none.md)\n```\n[f](https://example.org/none.md)\n"
    )
    assert broken_links(page) == ["none.md", "page.md#none"]


def test_the_index_lists_every_page():
    index = DOCS / "README.md"
    listed = {(DOCS / link.split("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert {*DOCS.glob("*/*.md")} <= listed


@pytest.mark.parametrize("page", REPOSITORY, ids=name_of)
def test_named_files_exist(page):
    text = page.read_text()
    missing = [name for name in SOURCE.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in OVERLAY.findall(text) if not (CONFIGS / name).exists()]
    missing += [
        f"{file}::{test}" for file, test in TEST.findall(text) if f"def {test}(" not in (ROOT / file).read_text()
    ]
    assert missing == []


def test_code_and_configs_name_pages_that_exist():
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *CONFIGS.rglob("*.yaml"), *CONFIGS.rglob("*.json")]
    for room in ("unetv2_monai", "scripts", "tests"):
        files += [path for path in (ROOT / room).rglob("*.py") if path != Path(__file__)]
    named = {(name_of(path), page) for path in files for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text())}
    assert [(path, page) for path, page in sorted(named) if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("page", REPOSITORY, ids=name_of)
def test_commands_have_the_options_that_they_name(page):
    makefile = (ROOT / "Makefile").read_text()
    keys = set()
    for path in (*CONFIGS.glob("*.json"), *CONFIGS.glob("*/*.yaml")):
        keys |= set(re.findall(r"""^(?: {4}")?\+?(\w+)"?:""", path.read_text(), re.MULTILINE))
    for words in commands(page):
        flags = [word[2:].split("=")[0].split("#")[0] for word in words if word.startswith("--")]
        script = next((word for word in words if re.fullmatch(r"scripts/\w+\.py", word)), None)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        elif script:
            files = (ROOT / script, *(ROOT / "scripts" / "common").glob("*.py"))
            source = "".join(path.read_text() for path in files)
            assert [flag for flag in flags if not re.search(rf'"(--)?{flag}"', source)] == [], words
        elif "monai.bundle" in words and "run" in words:
            given = flags[flags.index("config_file") :] if words[0] in ("torchrun", "srun") else flags
            assert [flag for flag in given if flag not in keys | {"config_file"}] == [], words


def test_the_first_commands_of_the_readme():
    first = [words for words in commands(ROOT / "README.md") if words]
    assert first[:2] == [["make", "demo"], ["make", "test"]]


def test_the_network_as_in_the_readme():
    names: dict = {}
    exec(code(ROOT / "README.md", "python")[0], names)
    assert [tuple(head.shape) for head in names["heads"]] == [(2, 1, n, n) for n in (352, 176, 88, 44)]
    assert names["logits"].shape == (1, 1, 288, 384)


def test_overlays_as_in_the_tutorial(tmp_path, monkeypatch):
    """The lesion is tinted, the rest of the frame is as it was."""
    frame, mask = np.full((8, 10, 3), 100, np.uint8), np.zeros((8, 10), np.uint8)
    mask[2:5, 3:7] = 255
    for folder in ("frames", "output/masks"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(frame).save(tmp_path / "frames" / "a.png")
    Image.fromarray(mask).save(tmp_path / "output" / "masks" / "a.png")
    monkeypatch.chdir(tmp_path)
    exec(code(DOCS / "tutorials" / "polyps.md", "python")[0], {})
    drawn = np.asarray(Image.open(tmp_path / "output" / "overlays" / "a.png").convert("RGB"))
    assert (drawn[mask == 0] == 100).all()
    assert (drawn[mask == 255] != 100).any(axis=-1).all()


def test_every_overlay_is_documented():
    page = (DOCS / "reference" / "configs.md").read_text()
    for path in (*CONFIGS.glob("recipes/*.yaml"), *CONFIGS.glob("options/*.yaml")):
        if path.stem != "volumes_metadata":  # MONAI Label's
            assert path.name in page, path.name


def test_sdi_in_other_networks_as_documented():
    page = (DOCS / "reference" / "network.md").read_text()
    code = page.split("## SDI in another network")[1].split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code, names)
    for net in (names["flexible"], names["InfusedUNet"](spatial_dims=2, in_channels=3, out_channels=1)):
        out = net(torch.rand(2, 3, 64, 96))
        assert out.shape == (2, 1, 64, 96)
        out.sum().backward()
        infused = [p for name, p in net.named_parameters() if ".sdi." in name]
        assert infused
        assert all(p.grad is not None for p in infused)
