#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Write docs/reference/options.md: every option of the configs with its type, default and meaning, from the table that the
options are checked by (unetv2_monai/bundle/option_table.py).

    python scripts/document_options.py
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.bundle import CONFIGS, ROOT
from common.command import new_parser, run
from common.tables import markdown
from monai.bundle import ConfigParser

from unetv2_monai.bundle.option_table import OPTIONS
from unetv2_monai.core.files import write_atomic

PAGE = ROOT / "docs" / "reference" / "options.md"
HEAD = """\
# Options

This page answers: which options do the configs have, what may their values be, and what are the defaults?

Set an option on the command line, `--batch_size 8`, or in a small file of your own that follows the config:
`--config_file "['bundle/configs/train.json','mine.yaml']"`. Set a deeper key by its path: `--network_def#dropout 0.1`,
`--optimizer#weight_decay 0.01`, `--train#trainer#amp false`.

All options are checked before anything is loaded. A value of another type, a misspelt option and a GPU that is not
there end the command with one sentence. Two mistakes are not found this way. A misspelt part of a path before its last
part ends in MONAI's own `KeyError: 'query key: ...'`. A misspelt key in a file of your own has no effect: compare it
with these tables. Arguments of MONAI's `run` itself, such as `--tracking`, are not listed here.

`scripts/document_options.py` writes this page.
"""
SECTIONS = {
    "train": """## train.json

Run with `python -m monai.bundle run training --config_file bundle/configs/train.json`. Mixed precision is used on a
GPU.
""",
    "evaluate": """## evaluate.json

Follows `train.json`: `--config_file "['bundle/configs/train.json','bundle/configs/evaluate.json']"`, run id
`evaluating`. Set `dataset_dir` and `output_dir` as for training. The weights bring the options that they were trained
with. [What each score means](scores.md).
""",
    "inference": """## inference.json

Run with `python -m monai.bundle run inference --config_file bundle/configs/inference.json`. The weights bring the
options that they were trained with.
""",
    "overlays": """## Options of overlays

[All overlays](configs.md#overlays).
""",
}


def shown(value: Any) -> str:
    """Write a default as on a command line."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def page() -> str:
    """Write the content of docs/reference/options.md."""
    parts = [HEAD]
    for section, head in SECTIONS.items():
        rows = []
        for name, option in OPTIONS[section].items():
            files = [f"{file}.yaml" for file in option.files] or [f"{section}.json"]
            defaults = [shown(ConfigParser.load_config_file(CONFIGS / file)[name]) for file in files]
            row = {"key": f"`{name}`"}
            if option.files:
                row["overlay"] = ", ".join(f"`{Path(file).name}`" for file in files)
            row["default"] = option.default or " or ".join(dict.fromkeys(defaults))
            rows.append(row | {"type": option.kind.name, "meaning": option.meaning})
        parts.append(f"{head}\n{markdown(rows)}\n")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    new_parser(__doc__).parse_args(argv)
    write_atomic(PAGE, page())
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    run(main)
