#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train networks under equal terms and compare their scores.

    python scripts/compare.py --dataset_dir data/polyp --output_dir output/compare --rows unetv2 \\
        "unetv2:network_def#sdi=false" unet unetplusplus fpn segresnet --seeds 0 1 2 --equal_time \\
        --overlays recipes/recommended options/ema --set image_size=96 max_epochs=12 val_interval=4

A row is the name of a recipe, optionally with its own options; unetv2 stands for train.json alone. The overlays of all
rows come before the row's recipe. All rows are compared with the first. --equal_time trains the others once more, for
as many epochs as fit into the CPU time of the first, with warmup_epochs in proportion.

results.md gets tables, results.png a plot of Dice against CPU time, scores.csv the scores of every image and class, of
all finished runs in the output folder. Finished runs are not repeated, and a run that another process works on is
skipped, so several commands may share the folder. A run that was stopped starts anew: its whole time is counted.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import read_config, run_bundle
from common.command import new_parser, run
from common.options import add_set, values_of
from common.pages import to_png
from comparisons.results import Results, plot, tabulate, write_scores
from comparisons.rows import Row
from comparisons.runs import EPOCHS, TIME, Run, fitting_epochs, read_runs
from filelock import FileLock, Timeout

from unetv2_monai import InputError
from unetv2_monai.core.files import write_atomic

NOTE = """\
Dice differences are to {reference}: means over the common seeds and all images, with the 95 % interval of a paired
bootstrap over both. For several classes, Dice, HD95 and surface Dice are means over the classes, and the difference is
that of each image's mean. HD95 is over images where mask and prediction both have the class; the others are counted as
undefined. CPU minutes cover the epochs with their validation, without the start of the process. Peak MB is the resident
memory of the training process.
"""


@dataclass(frozen=True)
class Comparison:
    """What a call of the command trains and compares."""

    output_dir: Path  # of all runs
    dataset_dir: str  # this and the next two are the same for all rows
    overlays: list[str]
    options: dict[str, str]
    rows: list[Row]  # to train; the others are compared with the first

    @property
    def terms(self) -> dict[str, Any]:
        """Return what all rows have in common, as a run stores it."""
        return {"dataset_dir": self.dataset_dir, "overlays": self.overlays, "set": self.options}

    def finished(self) -> dict[str, list[Run]]:
        """Read the finished runs of the folder by row. They must have the terms of this comparison."""
        found: dict[str, list[Run]] = defaultdict(list)
        for one in read_runs(self.output_dir):
            if one.terms != self.terms:
                raise InputError(f"{one.folder} was run with {one.terms}, now {self.terms}. Name another --output_dir.")
            found[one.row].append(one)
        return found

    def train_and_score(self, row: Row, seed: int) -> None:
        """Train and score one run, unless it is finished or another process works on it. Then write the results."""
        folder = self.output_dir / re.sub(r"[^\w=.]+", "_", row.text) / f"seed{seed}"
        try:
            with FileLock(folder / "lock", blocking=False):
                if seed in {one.seed for one in self.finished()[row.text]}:
                    return
                print(f"{row.text}, seed {seed}", flush=True)
                files, options = row.files(self.overlays), {**self.options, **row.options}
                scoring = {**options, "dataset_dir": self.dataset_dir, "output_dir": str(folder)}
                training = {**scoring, "seed": str(seed), "overwrite": "true"}
                taken = run_bundle("training", files, training, log=folder / "training.log")
                run_bundle("evaluating", [*files, "evaluate.json"], scoring, log=folder / "evaluating.log")
                (folder / "models" / "last.pt").unlink(missing_ok=True)  # large, and such a run is not resumed
                Run.finish(row.text, seed, self.terms, taken, parameters_of(files, options), folder)
        except Timeout:
            print(f"{row.text}, seed {seed}: another process works on it", flush=True)
            return
        self.report()

    def stored_in_time(self) -> dict[str, dict[str, str]]:
        """Read which row stands for a row at equal time, by the reference's text and the row's."""
        path = self.output_dir / "equal_time.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def in_time(self, row: Row) -> Row | None:
        """
        Return the row with options that let it train as long as the reference; None until both have a finished run.

        It is chosen once, so that all seeds have the same number of epochs, whichever process trains them.
        """
        with FileLock(self.output_dir / "lock"):
            stored, runs, reference = self.stored_in_time(), self.finished(), self.rows[0].text
            chosen = stored.setdefault(reference, {})
            if row.text not in chosen:
                if not runs[row.text] or not runs[reference]:
                    return None
                config = read_config(row.files(self.overlays), values_of({**self.options, **row.options}))
                interval, planned = (config.get_parsed_content(key) for key in ("val_interval", "max_epochs"))
                epochs = fitting_epochs(runs[row.text], runs[reference], interval)
                limits = {"max_epochs": str(epochs), "val_interval": str(min(interval, epochs))}
                if "warmup_epochs" in config:  # else the warm-up would be most of a short training
                    limits["warmup_epochs"] = f"{config.get_parsed_content('warmup_epochs') * epochs / planned:g}"
                chosen[row.text] = row.text if epochs == planned else row.with_options(limits).text
                write_atomic(self.output_dir / "equal_time.json", json.dumps(stored, indent=1) + "\n")
            return Row.parse(chosen[row.text])

    def results(self) -> Results:
        """Group the finished runs by ``EPOCHS`` and ``TIME``, then by row, the given rows first."""
        runs, stored, reference = self.finished(), self.stored_in_time(), self.rows[0].text
        only_in_time = {text for of in stored.values() for row, text in of.items() if text != row}
        order = dict.fromkeys([*(row.text for row in self.rows), *runs])
        epochs = {text: runs[text] for text in order if runs[text] and text not in only_in_time}
        chosen = {reference: reference, **stored.get(reference, {})}
        time = {text: found for text in order if (found := runs[chosen.get(text, "")])}
        return {EPOCHS: epochs, TIME: time} if len(time) > 1 else {EPOCHS: epochs}

    def report(self) -> None:
        """Write tables, scores and plot of all finished runs of the folder."""
        reference = self.rows[0].text
        with FileLock(self.output_dir / "lock"):
            results = self.results()
            tables = [tabulate(rows, reference) for rows in results.values()]
            heading = f"As many epochs as fit into the CPU time of {reference}:"
            text = f"\n\n{heading}\n\n".join(tables) + "\n\n" + NOTE.format(reference=reference)
            write_atomic(self.output_dir / "results.md", text)
            write_scores(self.output_dir / "scores.csv", results)
            try:
                write_atomic(self.output_dir / "results.png", to_png(plot(results)))
            except InputError as error:  # without matplotlib
                print(f"no plot: {error}")


def parameters_of(files: Sequence[str], options: Mapping[str, str]) -> int:
    """Count the parameters of the network that these configs define."""
    config = read_config(files, {**values_of(options), "pretrained": False})  # nothing is downloaded to count
    return sum(parameter.numel() for parameter in config.get_parsed_content("network_def").parameters())


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", required=True, help="data set with training and test images")
    parser.add_argument("--output_dir", type=Path, required=True, help="for the results and a folder per row and seed")
    parser.add_argument(
        "--rows", nargs="+", type=Row.parse, required=True, metavar="ROW", help="RECIPE or RECIPE:KEY=VALUE,KEY=VALUE"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--equal_time", action="store_true", help="also train every row for as long as the reference")
    parser.add_argument("--overlays", nargs="*", default=[], metavar="NAME", help="overlays of all rows")
    add_set(parser, "options of all rows")
    arguments = parser.parse_args(argv)
    rows: list[Row] = arguments.rows
    for row in rows:
        row.files(arguments.overlays)
    comparison = Comparison(arguments.output_dir, arguments.dataset_dir, arguments.overlays, arguments.set, rows)
    for seed in arguments.seeds:  # the outer loop, so that after each seed all rows can be compared
        for row in rows:
            comparison.train_and_score(row, seed)
    for seed in arguments.seeds if arguments.equal_time else []:
        for row in rows[1:]:
            if limited := comparison.in_time(row):
                comparison.train_and_score(limited, seed)
            else:
                print(f"{row.text}: not in the time of {rows[0].text} until both have a finished run")
    if comparison.finished():
        comparison.report()
        print((arguments.output_dir / "results.md").read_text())


if __name__ == "__main__":
    run(main)
