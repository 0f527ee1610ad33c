# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common: --help, and how they end."""

from __future__ import annotations

import pytest
from common.command import run

from unetv2_monai import InputError

from ..conftest import ROOT, script

COMMANDS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("federated_client", "label_loop")])
def test_help(name, capsys):
    """Without nvflare and MONAI Label, the two others cannot be imported."""
    with pytest.raises(SystemExit) as ended:
        script(name).main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    assert f"python scripts/{name}.py" in printed  # an example


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare", ["--dataset_dir", ".", "--output_dir", "out", "--rows", "unetv2", "--set"]),
        ("compare", ["--dataset_dir", ".", "--output_dir", "out", "--rows"]),
        ("export", ["--checkpoint", "model.pt", "--set"]),
        ("federated", ["--dataset_dir", ".", "--test_dir", ".", "--set"]),
        ("label_server", ["--images", ".", "--set"]),
        ("package_bundle", ["--set"]),
    ],
)
def test_an_option_without_a_value_gives_one_sentence(name, arguments, capsys):
    item = "unetv2:image_size" if arguments[-1] == "--rows" else "image_size"
    with pytest.raises(SystemExit) as ended:
        script(name).main([*arguments, item])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert line.endswith("'image_size' is not of the form KEY=VALUE, such as image_size=352")


def test_an_error_of_the_user_ends_with_its_message_alone(tmp_path):
    def fail(error):
        raise error

    (tmp_path / "file").touch()
    for main, message in [
        (lambda: fail(InputError("no such folder.")), "no such folder."),
        (lambda: (tmp_path / "file" / "out").mkdir(), f"{tmp_path / 'file' / 'out'}: Not a directory"),
        (lambda: (tmp_path / "file").mkdir(), f"{tmp_path / 'file'}: File exists"),
    ]:
        with pytest.raises(SystemExit) as ended:
            run(main)
        assert ended.value.code == f"error: {message}"
    for mistake in (ValueError("a bug"), KeyError("a bug")):  # of the code: it keeps its traceback
        with pytest.raises(type(mistake), match="a bug"):
            run(lambda: fail(mistake))  # noqa: B023
