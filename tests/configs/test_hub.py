# SPDX-License-Identifier: Apache-2.0
"""Publishing on the Hugging Face hub, with a hub that is a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from monai.bundle import push_to_hf_hub

from unetv2_monai import __version__

from ..conftest import ROOT

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> dict:
    """Keeps what would be sent."""
    sent: dict = {"tags": []}

    class FolderApi:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            sent.update(repo=repo_id, private=private)

        def upload_folder(self, repo_id, folder_path):
            sent["folder"] = Path(shutil.copytree(folder_path, tmp_path / "hub"))
            return f"https://huggingface.co/{repo_id}"

        def create_tag(self, repo_id, tag, exist_ok):
            sent["tags"].append(tag)

    monkeypatch.setattr(huggingface_hub, "HfApi", FolderApi)
    return sent


def test_push(hub, unpacked, tmp_path):
    bundle = Path(shutil.copytree(unpacked, tmp_path / "dist" / unpacked.name))
    url = push_to_hf_hub(
        repo="someone/unetv2", name=bundle.name, bundle_dir=str(bundle.parent), version=__version__,
        tag_as_latest_version=True,
    )  # fmt: skip
    assert url == "https://huggingface.co/someone/unetv2"
    assert (hub["repo"], hub["private"]) == ("someone/unetv2", True)
    assert hub["tags"] == [__version__, "latest_version"]
    sent = {path.relative_to(hub["folder"]) for path in hub["folder"].rglob("*") if path.is_file()}
    assert sent == {p.relative_to(unpacked) for p in unpacked.rglob("*") if p.is_file()} | {Path("README.md")}

    front, card = (hub["folder"] / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    assert "license: apache-2.0" in front
    assert "library_name: monai" in front
    assert card == (unpacked / "docs" / "README.md").read_text()


@pytest.mark.parametrize("folder", ["docs", "entries/polyps", "entries/skin_lesions", "entries/volumes"])
def test_model_cards_have_the_sections_of_the_zoos_template(folder):
    card = (ROOT / "bundle" / folder / "README.md").read_text()
    assert not card.startswith("---")  # the hub's front matter is added by push_to_hf_hub
    sections = [line.lstrip("# ").lower() for line in card.splitlines() if line.startswith("#")]
    expected = [
        "model overview", "intended use", "data", "preprocessing", "training configuration", "input", "output",
        "performance", "limitations", "monai bundle commands", "references", "license",
    ]  # fmt: skip
    assert [section for section in sections if section in expected] == expected
