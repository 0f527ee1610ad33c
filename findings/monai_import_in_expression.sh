#!/bin/sh
# MONAI 1.6.1: a config cannot be used at all once one of its expressions holds both a reference and the letters
# "import", for example in the name of a folder: a value that has nothing to do with it ends in a SyntaxError.
# MONAI takes such an expression for a possible import statement, and parses it as Python before it replaces "@".
# Seen: "$@root + '/exported'": 1; "$@root + '/imported'": SyntaxError; the same without a reference: 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from monai.bundle import ConfigParser


def other_value(expression):
    """What a config with an expression gives for another of its values."""
    try:
        return ConfigParser({"epochs": 1, "root": "data", "folder": expression}).get_parsed_content("epochs")
    except Exception as error:
        return type(error).__name__


cases = ["$@root + '/exported'", "$@root + '/imported'", "$'data' + '/imported'"]
found = [other_value(case) for case in cases]
for case, outcome in zip(cases, found):
    print(f"{case}: {outcome}")
assert found == [1, "SyntaxError", 1], found
PYTHON
