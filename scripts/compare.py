#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train networks under equal terms and compare their scores.

All networks have the same data, augmentation, optimiser, epochs and seeds. Weights are chosen on validation images and
scored on test images.

    python scripts/compare.py --dataset_dir data/polyp --output_dir output/compare --rows unetv2 \\
        "unetv2:network_def#sdi=false" unet unetplusplus fpn segresnet --seeds 0 1 2 --equal_time \\
        --overlays recipes/recommended options/ema --set image_size=96 max_epochs=12 val_interval=4

    python scripts/compare.py --dataset_dir data/hippocampus --output_dir output/compare --overlays recipes/volumes \\
        --rows unetv2 "unetv2:network_def#sdi=false" dynunet segresnet unetr --set max_epochs=8

A row is the name of a recipe, optionally with its own options; unetv2 stands for train.json alone. The overlays that
all rows share come before the row's recipe. --equal_time trains every row but the reference once more, for as many
epochs as fit into the CPU time of the reference's training, and scales warmup_epochs in proportion.

results.md has the tables: scores as mean and standard deviation over the seeds, CPU time of the epochs, memory,
parameters, and the difference between each row's Dice and the reference's, with its 95 % interval over seeds and
images. With several classes, Dice is the mean over the classes, each class has a column, and HD95 is added; volumes
have HD95 and surface Dice. results.png, if matplotlib is installed, plots Dice against CPU time, at the end and in the
course of each training. scores.csv has the scores of every image and class.

These files cover all finished runs in the output folder. Finished runs are not repeated, and a run that another process
works on is skipped, so several commands may share the folder, each with other rows or seeds. A run that was stopped
starts from the beginning, so that its whole time is counted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import read_config, run_bundle
from common.command import new_parser, run
from common.options import add_set, values_of
from common.pages import to_png
from common.rows import Row
from comparisons.results import plot, scores_as_csv, tabulate
from comparisons.runs import EPOCHS, TIME, Run, fitting_epochs, read_runs
from filelock import FileLock, Timeout

from unetv2_monai import InputError
from unetv2_monai.bundle.options import check_name
from unetv2_monai.core.files import write_atomic

LIMITS = "limits.json"
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
    rows: list[Row]  # to train
    reference: str  # text of the row that the others are compared with

    @property
    def terms(self) -> dict[str, Any]:
        """Return what all rows have in common, as a run stores it."""
        return {"dataset_dir": self.dataset_dir, "overlays": self.overlays, "set": self.options}

    def finished(self) -> list[Run]:
        """Read the finished runs of the folder, which must have the terms of this comparison."""
        runs = read_runs(self.output_dir)
        for one in runs:
            if one.terms != self.terms:
                raise InputError(f"{one.folder} was run with {one.terms}, now {self.terms}. Name another --output_dir.")
        return runs

    def of_row(self, text: str, time_of: str = "") -> list[Run]:
        """Read a row's finished runs; with ``time_of``, also those at equal epochs if as many fit into that time."""
        limits = self.folder(text, time_of) / LIMITS
        epochs = json.loads(limits.read_text())["max_epochs"] if limits.is_file() else ""
        runs = [one for one in self.finished() if one.row == text]
        runs = [one for one in runs if one.time_of == time_of or (not one.time_of and str(one.epochs) == epochs)]
        return list({one.seed: one for one in runs}.values())  # one for each seed; two commands may have raced

    def folder(self, text: str, time_of: str = "") -> Path:
        """Return the folder for the runs of a row."""
        names = [text, f"time_of_{time_of}"] if time_of else [text]
        return self.output_dir.joinpath(*(re.sub(r"[^\w=.]+", "_", name) for name in names))

    def train_and_score(self, row: Row, seed: int, time_of: str = "", limits: Mapping[str, str] | None = None) -> bool:
        """Train and score one run, and return True. Return False if it is finished or another process works on it."""
        name = f"{row.text}, seed {seed}" + (f", in the time of {time_of}" if time_of else "")
        folder = self.folder(row.text, time_of) / f"seed{seed}"
        try:
            lock = FileLock(folder / "lock", blocking=False).acquire()
        except Timeout:
            print(f"{name}: another process works on it", flush=True)
            return False
        with lock:
            if seed in {one.seed for one in self.of_row(row.text, time_of)}:
                return False
            print(name, flush=True)
            files, options = row.files(self.overlays), {**self.options, **row.options, **(limits or {})}
            evaluation_files = [*files, "evaluate.json"]
            common = {"dataset_dir": self.dataset_dir, "output_dir": str(folder)}
            scoring = known_options(evaluation_files, options)
            only_scoring = scoring.keys() - known_options(files, options).keys()
            training = {key: value for key, value in options.items() if key not in only_scoring}
            training |= {**common, "seed": str(seed), "overwrite": "true"}
            taken = run_bundle("training", files, training, log=folder / "training.log")
            run_bundle("evaluating", evaluation_files, {**scoring, **common}, log=folder / "evaluating.log")
            (folder / "models" / "last.pt").unlink(missing_ok=True)  # large, and such a run is not resumed
            Run.finish(row.text, seed, time_of, self.terms, taken, parameters_of(files, options), folder)
            return True

    def limits(self, row: Row) -> dict[str, str] | None:
        """
        Compute options that let a row train as long as the reference; None if one of the two has no finished run yet.

        The options are computed once, so that all seeds have the same number of epochs, whichever process trains them.
        """
        path = self.folder(row.text, self.reference) / LIMITS
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                runs, reference = self.of_row(row.text), self.of_row(self.reference)
                if not runs or not reference:
                    return None
                config = read_config(row.files(self.overlays), values_of({**self.options, **row.options}))
                interval, planned = (config.get_parsed_content(key) for key in ("val_interval", "max_epochs"))
                epochs = fitting_epochs(runs, reference, interval)
                limits = {"max_epochs": str(epochs), "val_interval": str(min(interval, epochs))}
                if "warmup_epochs" in config:  # else the warm-up would be most of a short training
                    limits["warmup_epochs"] = f"{config.get_parsed_content('warmup_epochs') * epochs / planned:g}"
                write_atomic(path, json.dumps(limits) + "\n")
            return json.loads(path.read_text())

    def results(self) -> dict[str, dict[str, list[Run]]]:
        """Group the finished runs by ``EPOCHS`` and ``TIME``, then by row, the given rows first."""
        texts = list(dict.fromkeys([*(row.text for row in self.rows), *(one.row for one in self.finished())]))
        epochs = {text: found for text in texts if (found := self.of_row(text))}
        time = {text: found for text in texts if (found := self.of_row(text, self.reference))}
        if time:
            time = {text: time.get(text) or epochs[text] for text in epochs if text in {*time, self.reference}}
        return {equal: rows for equal, rows in ((EPOCHS, epochs), (TIME, time)) if rows}

    def report(self) -> str:
        """Write tables, scores and plot of all finished runs of the folder, and return the tables."""
        with FileLock(self.output_dir / "lock"):
            results = self.results()
            if not results:
                return "no run is finished yet"
            tables = [tabulate(rows, self.reference) for rows in results.values()]
            heading = f"As many epochs as fit into the CPU time of {self.reference}:"
            text = f"\n\n{heading}\n\n".join(tables) + "\n\n" + NOTE.format(reference=self.reference)
            write_atomic(self.output_dir / "results.md", text)
            write_atomic(self.output_dir / "scores.csv", scores_as_csv(results))
            try:
                write_atomic(self.output_dir / "results.png", to_png(plot(results)))
            except InputError as error:  # without matplotlib
                print(f"no plot: {error}")
            return text


def known_options(files: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """Return the options that these configs have: training refuses options of evaluation alone, and the reverse."""
    config: dict[str, Any] = dict(read_config(files, values_of(options)).get())
    known = dict(options)
    for key in options:
        try:
            check_name(config, key)
        except InputError:
            del known[key]
    return known


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
    parser.add_argument("--reference", metavar="ROW", help="row to compare the others with; default: the first row")
    parser.add_argument("--equal_time", action="store_true", help="also train every row for as long as the reference")
    parser.add_argument("--overlays", nargs="*", default=[], metavar="NAME", help="overlays of all rows")
    add_set(parser, "options of all rows")
    arguments = parser.parse_args(argv)
    rows: list[Row] = arguments.rows
    for row in rows:
        row.files(arguments.overlays)
    reference = arguments.reference or rows[0].text
    comparison = Comparison(
        arguments.output_dir, arguments.dataset_dir, arguments.overlays, arguments.set, rows, reference
    )
    known = {row.text for row in rows} | {one.row for one in comparison.finished()}
    if reference not in known:
        raise InputError(f"--reference {reference}: there is {', '.join(sorted(known))}.")
    for seed in arguments.seeds:  # the outer loop, so that after each seed all rows can be compared
        for row in rows:
            if comparison.train_and_score(row, seed):
                comparison.report()
    others = [row for row in rows if row.text != reference] if arguments.equal_time else []
    for seed in arguments.seeds:
        for row in others:
            limits = comparison.limits(row)
            if limits is None:
                print(f"{row.text}: not in the time of {reference} until both have a finished run")
            elif comparison.train_and_score(row, seed, reference, limits):
                comparison.report()
    print(comparison.report())


if __name__ == "__main__":
    run(main)
