# SPDX-License-Identifier: Apache-2.0
"""Finished runs of compare.py that nothing was trained for."""

import csv
from pathlib import Path
from typing import Any

from common.bundle import Usage
from comparisons.runs import Run


def finished(folder: Path, dice: dict[str, float], **fields: Any) -> Run:
    """A run with ``dice`` by image and a pooled Dice of 0.9; ``fields`` as of :py:func:`finished_with`."""
    rows = [
        {"image": f"/data/test/{name}.png", "class": 1, "dice": value, "iou": value / 2, "tp": 9, "fp": 1, "fn": 1}
        for name, value in dice.items()
    ]
    return finished_with(folder, rows, **fields)


def finished_with(
    folder: Path, rows: list[dict[str, Any]], epochs: int = 4, cpu: float = 60, peak: float = 800, **fields: Any
) -> Run:
    """Of these rows of scores.csv, with one second per epoch and one more; ``cpu`` seconds and ``peak`` megabytes."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,seconds\n" + "".join(f"{n + 1},1.0\n" for n in range(epochs)))
    with (folder / "evaluation" / "scores.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, ["dataset", *rows[0]])
        writer.writeheader()
        writer.writerows({"dataset": "set", **row} for row in rows)
    given = {"row": "a", "seed": 0, "terms": {}, "parameters": 1_234_567, **fields}
    return Run.finish(**given, taken=Usage(epochs + 1.0, cpu, peak), folder=folder)
