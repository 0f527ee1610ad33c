#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make one page of a run: learning curves, scores with intervals, the best, the median and the worst image with outlines,
failures by size of the lesion, calibration, the data and the config.

    python scripts/report.py output

reads what `run evaluating` left in `output`, and `run training` if it was run there. It segments the few images that it
shows again, then writes `output/report.html`, which needs no other file, and its images to `output/report/`.
"""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common.command import new_parser, run
from common.figures import new_figure, to_png
from common.options import plain_option
from common.pages import data_uri, render
from monai.bundle import ConfigParser
from reports.scored import Cells, Scored, best_median_worst, failures, grouped
from reports.segmented import predict

from unetv2_monai import InputError
from unetv2_monai.core.files import write_atomic
from unetv2_monai.core.overlay import stacked
from unetv2_monai.handlers.score_table import SCORES, score_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_SCORES = (*(score.title for score in SCORES), "pooled Dice", "ECE", "lesions missed")
EVALUATION_OPTIONS = ("backbone", "image_size", "out_channels")
TRAINING_OPTIONS = ("max_epochs", "batch_size", "learning_rate", "seed")


def read(folder: Path, name: str) -> str:
    """A file that evaluating wrote."""
    path = folder / "evaluation" / name
    if not path.is_file():
        raise InputError(f"{path} does not exist: run evaluating writes it. Name its output_dir.")
    return path.read_text()


def read_rows(text: str) -> list[dict[str, str]]:
    """The content of a CSV file."""
    return list(csv.DictReader(io.StringIO(text)))


def parsed(config: dict[str, Any]) -> ConfigParser:
    """A config as it was run, for one process on the device that is here."""
    config = copy.deepcopy(config)
    config["validate"]["dataloader"].pop("sampler", None)  # of an evaluation in several processes
    parser = ConfigParser(config)
    parser.update({"check_data": False, "num_workers": 0})
    if "LOCAL_RANK" in str(config["device"]):
        parser["device"] = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
    return parser


def content_of(parser: ConfigParser, key: str) -> Any:
    """A part of a config; an ``InputError`` is raised without the errors that MONAI wraps it in."""
    try:
        return parser.get_parsed_content(key)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def curves(epochs: Sequence[dict[str, str]]) -> Figure:
    """Loss and Dice of every epoch."""
    figure = new_figure(10, 3.6)
    for axis, title, names in zip(
        figure.subplots(1, 2),
        ("loss", "mean Dice"),
        (
            {"train_mean_loss": "training"},
            {"train_mean_dice": "training (augmented)", "val_mean_dice": "validation"},
        ),
    ):
        for name, label in names.items():
            points = [(int(row["epoch"]), float(row[name])) for row in epochs if row.get(name)]
            if points:
                axis.plot(*zip(*points), marker="." if len(points) < 50 else None, label=label)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def calibration(summary: dict[str, Any]) -> Figure:
    """Share of lesion pixels against the probability that the network states."""
    figure = new_figure(4.6, 4.2)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, one in summary.items():
        bins = np.array([row for row in one["calibration"] if row[0] > 0])
        label = f"{name} (ECE {score_cells(one)['ECE']})"
        axis.plot(bins[:, 1] / bins[:, 0], bins[:, 2] / bins[:, 0], marker=".", label=label)
    axis.set(xlabel="probability", ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
    axis.legend()
    return figure


def score_rows(summary: dict[str, Any]) -> list[Cells]:
    """
    A header, then a row per data set and class: those of ``SHOWN_SCORES`` that there are, means and pooled Dice with
    95 % intervals.
    """
    cells = {f"{name} ({one['images']})": score_cells(one) for name, one in summary.items()}
    titles = [title for title in SHOWN_SCORES if any(title in row for row in cells.values())]
    rows: list[Cells] = [[name, *(row.get(title, "-") for title in titles)] for name, row in cells.items()]
    return [["data set (images)", *titles], *rows]


def about_training(noted: dict[str, Any], epochs: Sequence[dict[str, str]], scored: Container[str]) -> list[Cells]:
    """What run.json and metrics.csv say of the training, and whether scored images were trained on."""
    start = noted["starts"][-1]
    validated = [(float(row["val_mean_dice"]), int(row["epoch"])) for row in epochs if row.get("val_mean_dice")]
    best = "best validation Dice {:.3f} in epoch {}".format(*max(validated)) if validated else "never validated"
    about: list[Cells] = []
    try:
        lists = content_of(parsed(noted["config"]), "datalist")
    except InputError:  # moved since; the scores do not need it
        about.append(["WARNING", "training data not found: overlap with the scored images not checked"])
    else:
        about += [[f"{name} pairs", len(pairs)] for name, pairs in lists.items()]
        if seen := sum(item["image"] in scored for item in lists["training"]):
            about.append(["WARNING", f"{seen} of the scored images were trained on: the scores say nothing of others"])
    about.append(["epochs", f"{epochs[-1]['epoch']}, {best}"])
    about.append(["minutes", f"{sum(float(row['seconds']) for row in epochs) / 60:.1f}"])
    about.append(["started", ", ".join(one["time"] for one in noted["starts"])])
    about += [["device", start["device"]], ["git", start["git"]]]
    return [*about, ["packages", ", ".join(f"{name} {number}" for name, number in start["packages"].items())]]


def main(argv: Sequence[str] | None = None) -> None:
    options = new_parser(__doc__)
    options.add_argument("output_dir", type=Path, help="of training and evaluating")
    folder = options.parse_args(argv).output_dir

    summary = json.loads(read(folder, "summary.json"))
    lines = read_rows(read(folder, "scores.csv"))
    several = len({line["class"] for line in lines}) > 1
    rows = [Scored.from_row(line, several) for line in lines]
    config = json.loads(read(folder, "config.json"))
    images = {"calibration": to_png(calibration(summary))}
    parser = parsed(config)
    section = parser.get_parsed_content("eval_section")
    items = {item["image"]: item for item in content_of(parser, "eval_datalist")[section]}
    about: list[Cells] = [["images", config["dataset_dir"]], ["weights", parser.get_parsed_content("checkpoint")]]
    trained: dict[str, Any] = {}
    if (folder / "run.json").is_file():
        noted = json.loads((folder / "run.json").read_text())
        trained = noted["config"]
        if (folder / "metrics.csv").is_file():
            epochs = read_rows((folder / "metrics.csv").read_text())
            images["curves"] = to_png(curves(epochs))
            about += about_training(noted, epochs, items)

    chosen = {
        (name, which): row for name, group in grouped(rows).items() for which, row in best_median_worst(group).items()
    }
    found = predict(parser, {row.case: items[row.image] for row in chosen.values()})
    overlays = [
        found[row.case].row(f"{name}, {which}: {row.name}  Dice {row.dice:.3f}")
        for (name, which), row in chosen.items()
    ]
    buffer = io.BytesIO()
    stacked(overlays).save(buffer, "PNG")
    images["overlays"] = buffer.getvalue()

    for name, content in images.items():
        write_atomic(folder / "report" / f"{name}.png", content)
    page = render(
        "report.html.j2",
        title=folder.name,
        about=about,
        several=several,
        scores=score_rows(summary),
        volumes=any("surface_dice" in line for line in lines),
        surface_tolerance=config.get("surface_tolerance"),
        failures=failures(rows),
        images={"curves": None, **{name: data_uri(content) for name, content in images.items()}},
        training_options=[[key, trained[key]] for key in TRAINING_OPTIONS if key in trained],
        evaluation_options=[[key, plain_option(config, key)] for key in EVALUATION_OPTIONS],
        config=json.dumps(config, indent=1),
    )
    write_atomic(folder / "report.html", page)
    print(f"report: {folder / 'report.html'}; its images: {folder / 'report'}")


if __name__ == "__main__":
    run(main)
