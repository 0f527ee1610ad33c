# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common. Which file may import which is tested in tests/test_rooms.py."""

from __future__ import annotations

import re

import pytest
from common.command import run

from ..conftest import ROOT, script

SCRIPTS = ROOT / "scripts"
COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def test_the_commands_are_those_that_users_know():
    assert COMMANDS == [
        "benchmark", "check_data", "compare", "convert_encoder", "document_options", "export", "federated",
        "federated_client", "label_loop", "label_server", "make_demo_data", "package_bundle", "prepare_isic",
        "prepare_polyp", "report", "segment",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["federated_client.py", "label_app/main.py"])
def test_files_that_are_copied_alone_import_nothing_beside_them(name):
    assert not re.search(r"^\s*(from|import) (common|benchmarks|\.)", (SCRIPTS / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_in_the_same_way(name):
    lines = (SCRIPTS / f"{name}.py").read_text().splitlines()
    assert lines[-2] == 'if __name__ == "__main__":'
    alone = name in ("federated_client", "segment")  # these need not have unetv2_monai beside them
    assert lines[-1] in (["    main()"] if alone else ["    run(main)", "    run(main, quiet=True)"])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("federated_client", "label_loop")])
def test_help(name, capsys):
    """Without nvflare and MONAI Label, the two others cannot be imported."""
    with pytest.raises(SystemExit) as ended:
        script(name).main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    assert f"python scripts/{name}.py" in printed  # an example


def test_a_folder_that_cannot_be_made_ends_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for make, message in [
        (lambda: (tmp_path / "file" / "out").mkdir(), f"error: {tmp_path / 'file' / 'out'}: Not a directory"),
        (lambda: (tmp_path / "file").mkdir(), f"error: {tmp_path / 'file'}: File exists"),
    ]:
        with pytest.raises(SystemExit) as ended:
            run(make)
        assert ended.value.code == message
    with pytest.raises(KeyError):  # a mistake of the code keeps its traceback
        run(lambda: {}["absent"])
