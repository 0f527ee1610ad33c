#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Write docs/reference/options.md: every option of the configs with its type, default and meaning, from the table that the
options are checked by (unetv2_monai/bundle/option_table.py).

    python scripts/document_options.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.bundle import CONFIGS, ROOT
from common.command import new_parser, run
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

All options are checked before anything is loaded. A value of another type, a misspelt option on the command line, also
in the last part of a path, and a GPU that is not there end the command with one sentence. (A misspelt part before the
last ends in MONAI's own `KeyError: 'query key: ...'`, before the checks.) A misspelt key in a file of your own is not
noticed, except by its lack of effect: compare it with these tables. Arguments of MONAI's `run` itself,
such as `--tracking`, are not listed here.

`scripts/document_options.py` writes this page.
"""
SECTIONS = {
    "train": """## train.json

Run with `python -m monai.bundle run training --config_file bundle/configs/train.json`. Mixed precision is used on a
GPU.
""",
    "evaluate": """## evaluate.json

Follows `train.json`: `--config_file "['bundle/configs/train.json','bundle/configs/evaluate.json']"`, run id
`evaluating`. Set `dataset_dir`, `output_dir`, `backbone`, `image_size` and `out_channels` as for training. [What each
score means](scores.md).
""",
    "inference": """## inference.json

Run with `python -m monai.bundle run inference --config_file bundle/configs/inference.json`. Set `backbone`,
`image_size` and `out_channels` as for training.
""",
    "overlays": """## Options of overlays

[All overlays](configs.md#overlays).
""",
}


def shown(value: Any) -> str:
    """A default as it is written on a command line."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def page() -> str:
    """The content of docs/reference/options.md."""
    parts = [HEAD]
    for section, head in SECTIONS.items():
        own = section != "overlays"
        config = json.loads((CONFIGS / f"{section}.json").read_text()) if own else {}
        rows = [["key", "default", "type", "meaning"] if own else ["key", "overlay", "default", "type", "meaning"]]
        rows.append(["---"] * len(rows[0]))
        for name, option in OPTIONS[section].items():
            defaults = [config] if own else [ConfigParser.load_config_file(CONFIGS / f"{f}.yaml") for f in option.files]
            default = option.default or " or ".join(dict.fromkeys(shown(one[name]) for one in defaults))
            files = [] if own else [", ".join(f"`{Path(file).name}.yaml`" for file in option.files)]
            rows.append([f"`{name}`", *files, default, option.kind.name, option.meaning])
        parts.append(head + "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    new_parser(__doc__).parse_args(argv)
    write_atomic(PAGE, page())
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    run(main)
