# SPDX-License-Identifier: Apache-2.0
"""What the folder scripts/ promises: commands that stand alone, over libraries in common/."""

from __future__ import annotations

import ast

import pytest

from ..conftest import ROOT, script

SCRIPTS = ROOT / "scripts"
COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
FILES = sorted(path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.rglob("*.py"))


def imported(name: str) -> set[str]:
    """The topmost names that a file imports anywhere; ``.`` for its own package."""
    names = set()
    for node in ast.walk(ast.parse((SCRIPTS / name).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else (node.module or "").split(".")[0])
    return names


def test_the_commands_are_those_that_the_documentation_names():
    assert COMMANDS == [
        "benchmark", "check_data", "compare", "export", "federated", "federated_client", "label_loop", "label_server",
        "make_demo_data", "package_bundle", "prepare_isic", "prepare_polyp", "report",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_long_and_none_imports_a_command(name):
    assert len((SCRIPTS / name).read_text().splitlines()) <= 400
    found = imported(name)
    assert not found & {*COMMANDS, "scripts", "tests"}
    if name.startswith("common/"):
        assert not found & {"benchmarks", "label_app"}
    if name in ("federated_client.py", "label_app/main.py"):  # copied without common/
        assert not found & {"common", "benchmarks", "."}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_in_the_same_way(name):
    lines = (SCRIPTS / f"{name}.py").read_text().splitlines()
    assert lines[-2] == 'if __name__ == "__main__":'
    assert lines[-1] in ("    run(main)", "    run(main, quiet=True)", *["    main()"] * (name == "federated_client"))


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("federated_client", "label_loop")])
def test_help(name, capsys):
    """Without nvflare and MONAI Label, the two others cannot be imported."""
    with pytest.raises(SystemExit) as ended:
        script(name).main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    assert f"python scripts/{name}.py" in printed  # an example
