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
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from common.command import new_parser, run
from common.figures import new_figure, to_png
from common.overlay import MASK_COLOR, PREDICTION_COLOR, outlined, side_by_side, stacked
from common.pages import data_uri, render
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, load_weights, to_rgb
from unetv2_monai.files import write_atomic
from unetv2_monai.handlers.score_table import SCORES, group_name, score_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_SCORES = (*(score.title for score in SCORES), "pooled Dice", "ECE", "lesions missed")
EVALUATION_OPTIONS = ("backbone", "image_size", "out_channels")
TRAINING_OPTIONS = ("max_epochs", "batch_size", "learning_rate", "seed")
POOR, MOST_LISTED = 0.5, 50  # Dice; images
PANEL_HEIGHT = 240  # pixels

Cells = list[object]
Case = tuple[str, int]  # path of an image, class


@dataclass(frozen=True)
class Size:
    """A group of lesions: of more than ``low`` and up to ``high`` of the image."""

    low: float
    high: float
    title: str


SIZES = (
    Size(0, 0.02, "small: up to 2 % of the image"),
    Size(0.02, 0.1, "medium: 2 to 10 %"),
    Size(0.1, 1, "large: over 10 %"),
)


@dataclass(frozen=True)
class Scored:
    """
    A row of ``scores.csv``: one class of one image.

    Args:
        group: name of what it is summarised with: the data set, and the class where there are several.
        image: path.
        class_index: 1 for the first class that is not the background.
        dice: of this class.
        tp, fp, fn, tn: pixels.
    """

    group: str
    image: str
    class_index: int
    dice: float
    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def from_row(cls, row: dict[str, str], several: bool = False) -> Scored:
        """``several``: whether there are several classes."""
        counts = {name: int(row[name]) for name in ("tp", "fp", "fn", "tn")}
        return cls(group_name(row, several), row["image"], int(row["class"]), float(row["dice"]), **counts)

    @property
    def case(self) -> Case:
        return self.image, self.class_index

    @property
    def name(self) -> str:
        return Path(self.image).name

    @property
    def lesion(self) -> float:
        """Share of the image that the lesion has."""
        return (self.tp + self.fn) / max(self.tp + self.fp + self.fn + self.tn, 1)

    @property
    def failure(self) -> str:
        """In words."""
        return "empty mask, marked" if self.lesion == 0 else "missed" if self.tp == 0 else "partly found"


@dataclass(frozen=True)
class Segmented:
    """RGB image (height, width, 3), mask and prediction (height, width) of one class of it."""

    image: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray

    def row(self, title: str) -> Image.Image:
        """All three side by side."""
        panels = [self.image]
        for mask, color in ((self.mask, MASK_COLOR), (self.prediction, PREDICTION_COLOR)):
            panels.append(outlined(self.image, mask, color))
        return side_by_side(panels, [title], PANEL_HEIGHT)


@dataclass(frozen=True)
class Group:
    """
    Args:
        by_size: a row of cells for each of ``SIZES``.
        empty: number of images without a lesion.
        marked: on how many of them something was marked.
    """

    by_size: list[Cells]
    empty: int
    marked: int


@dataclass(frozen=True)
class Failures:
    """
    Args:
        limit: Dice below which an image is poor.
        groups: by name: of a data set, or of one class in it.
        poor: a row of cells for each poor image, the worst first.
        more: number of poor images that are not listed.
    """

    limit: float
    groups: dict[str, Group]
    poor: list[Cells]
    more: int


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


def predict(parser: ConfigParser, items: Mapping[Case, dict[str, str]]) -> dict[Case, Segmented]:
    """The cases in ``items`` at native size; of volumes the slice with most of the mask."""
    parser["validate#dataset#data"] = list({path: item for (path, _), item in items.items()}.values())
    parser["validate#handlers"] = []
    load_weights(parser.get_parsed_content("network"), parser.get_parsed_content("checkpoint"))
    evaluator = parser.get_parsed_content("validate#evaluator")
    found: dict[Case, Segmented] = {}

    def keep(engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output):
            path = str(item["image"].meta["filename_or_obj"])
            for case in items:
                if case[0] == path:
                    channel = case[1] if len(output["pred"]) > 1 else 0  # one channel has no background
                    mask, pred = (output[key][channel].cpu().numpy() > 0 for key in ("label", "pred"))
                    found[case] = planes(path, mask, pred)

    evaluator.add_event_handler("ITERATION_COMPLETED", keep)
    evaluator.run()
    return found


def planes(path: str, mask: np.ndarray, pred: np.ndarray) -> Segmented:
    """Two dimensions of an image or a volume, rows first."""
    if mask.ndim == 2:
        with Image.open(path) as opened:
            return Segmented(np.asarray(to_rgb(opened)), mask.T, pred.T)
    index = int(mask.sum(axis=(0, 1)).argmax())
    grey = np.asanyarray(nibabel.load(path).dataobj)[..., index].astype(float)  # type: ignore[attr-defined]
    grey = 255 * (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9)
    return Segmented(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), mask[..., index], pred[..., index])


def best_median_worst(rows: Sequence[Scored]) -> dict[str, Scored]:
    """Of one group; the best of those with a lesion, since marking nothing where nothing is gives 1 as well."""
    ranked = sorted(rows, key=lambda row: row.dice)
    lesions = [row for row in ranked if row.lesion > 0] or ranked
    return {"best": lesions[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


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
    """A row per data set and class: ``SHOWN_SCORES``, means and pooled Dice with 95 % intervals."""
    rows: list[Cells] = []
    for name, one in summary.items():
        cells = score_cells(one)
        rows.append([f"{name} ({one['images']})", *(cells[title] for title in SHOWN_SCORES)])
    return rows


def grouped(rows: Sequence[Scored]) -> dict[str, list[Scored]]:
    """By data set and class, in the order of the names."""
    return {name: [row for row in rows if row.group == name] for name in sorted({row.group for row in rows})}


def failures_in(rows: Sequence[Scored]) -> Group:
    """What went wrong in one group, by size of the lesion."""
    by_size: list[Cells] = []
    for size in SIZES:
        alike = [row for row in rows if size.low < row.lesion <= size.high]
        dice = f"{np.mean([row.dice for row in alike]):.3f}" if alike else "-"
        poor = sum(row.dice < POOR for row in alike)
        by_size.append([size.title, len(alike), dice, poor, sum(row.tp == 0 for row in alike)])
    empty = [row for row in rows if row.lesion == 0]
    return Group(by_size, len(empty), sum(row.fp > 0 for row in empty))


def failures(rows: Sequence[Scored]) -> Failures:
    """What went wrong, by group and by image."""
    worst = sorted((row for row in rows if row.dice < POOR), key=lambda row: row.dice)
    listed: list[Cells] = [
        [row.group, row.name, f"{row.dice:.3f}", f"{100 * row.lesion:.1f} %", row.failure]
        for row in worst[:MOST_LISTED]
    ]
    groups = {name: failures_in(group) for name, group in grouped(rows).items()}
    return Failures(POOR, groups, listed, len(worst) - len(listed))


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
        score_names=["data set (images)", *SHOWN_SCORES],
        scores=score_rows(summary),
        failures=failures(rows),
        images={"curves": None, **{name: data_uri(content) for name, content in images.items()}},
        training_options=[[key, trained[key]] for key in TRAINING_OPTIONS if key in trained],
        evaluation_options=[[key, config.get(key)] for key in EVALUATION_OPTIONS],
        config=json.dumps(config, indent=1),
    )
    write_atomic(folder / "report.html", page)
    print(f"report: {folder / 'report.html'}; its images: {folder / 'report'}")


if __name__ == "__main__":
    run(main)
