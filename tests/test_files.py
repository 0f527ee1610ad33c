# SPDX-License-Identifier: Apache-2.0
"""The size of files. What may import what is in pyproject.toml, and import-linter checks it."""

from .conftest import ROOT


def test_no_file_is_long():
    paths = [path for folder in ("unetv2_monai", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    paths += (ROOT / "bundle" / "configs").rglob("*.yaml")
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > 400} == {}
