#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/options.md: every option of the configs with its type, default and meaning. They come from
unetv2_monai/bundle/options.yaml, by which options are checked.

    python scripts/document_options.py
"""

import json
from collections.abc import Sequence
from typing import Any

from common.bundle import CONFIGS, ROOT
from common.command import new_parser, run
from common.pages import render
from markupsafe import Markup
from monai.bundle import ConfigParser

from unetv2_monai.bundle.option_table import OPTIONS, Option
from unetv2_monai.core.files import write_atomic

PAGE = ROOT / "docs" / "reference" / "options.md"


def shown(value: Any) -> str:
    """Format a default as it is written on a command line."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def default(section: str, name: str, option: Option) -> str:
    """Return an option's default in words, or as each of its files has it."""
    files = [f"{file}.yaml" for file in option.files] or [f"{section}.json"]
    values = (shown(ConfigParser.load_config_file(CONFIGS / file)[name]) for file in files)
    return option.default or " or ".join(dict.fromkeys(values))


def page() -> str:
    """Return the content of docs/reference/options.md."""
    return render("options.md.j2", options=OPTIONS, default=lambda *one: Markup(default(*one)))


def main(argv: Sequence[str] | None = None) -> None:
    new_parser(__doc__).parse_args(argv)
    write_atomic(PAGE, page())
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    run(main)
