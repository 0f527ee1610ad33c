#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Make a report of a run on one page: learning curves, scores with intervals, the best, the median and the worst image
with outlines, all images from the worst on, failures by size of the lesion, which images and lesions are found at which
certainty, calibration, the data and the config.

    python scripts/report.py output

reads what `run evaluating` wrote to `output`, and what `run training` wrote there, if anything. It segments the images
that it shows, the worst 200 at most. Then it writes `output/report.html`, which needs no other file, and its images to
`output/report/`.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.command import new_parser, run
from common.options import plain_option
from common.pages import data_uri, new_figure, render, thumbnail_uri, to_png
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, load_weights
from unetv2_monai.bundle.run_folder import pairs_of_run, trained_among
from unetv2_monai.core.errors import unwrapped
from unetv2_monai.core.files import encoded, read_csv, write_atomic
from unetv2_monai.core.overlay import MASK_COLOR, PREDICTION_COLOR, boxed, outlined, side_by_side, stacked
from unetv2_monai.core.view import find_view
from unetv2_monai.data.pictures import picture
from unetv2_monai.handlers.score_table import DETECTION_SCORES, SCORES, group_name, score_cells

SHOWN_SCORES = (*(score.title for score in SCORES), "pooled Dice", "ECE", "lesions missed")
EVALUATION_OPTIONS = ("backbone", "image_size", "out_channels")
TRAINING_OPTIONS = ("max_epochs", "batch_size", "learning_rate", "seed")
CURVES = {
    "loss": {"train_mean_loss": "training"},
    "mean Dice": {"train_mean_dice": "training (augmented)", "val_mean_dice": "validation"},
}
POOR = 0.5  # images with a lower Dice are poor
MOST_SHOWN, THUMBNAIL = 200, 150  # images that are shown from the worst on; pixels in height
SIZES = {  # share of the image: above the first number, up to the second
    "small: up to 2 % of the image": (0, 0.02),
    "medium: 2 to 10 %": (0.02, 0.1),
    "large: over 10 %": (0.1, 1),
}
PANEL_HEIGHT, VOLUME_PANEL_HEIGHT = 240, 480  # pixels

Cells = list[object]
Case = tuple[str, int]  # path of an image, class
Segmented = tuple[np.ndarray, np.ndarray, np.ndarray]  # RGB, mask and prediction of one class, rows first


@dataclass(frozen=True)
class Scored:
    """A row of ``scores.csv``: one class of one image, with the ``group`` that it is summarised with."""

    group: str
    image: str
    class_index: int
    dice: float
    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def from_row(cls, row: dict[str, str], several: bool = False) -> "Scored":
        """Read a line of the file; ``several``: whether there are several classes."""
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
        """Return the lesion's share of the image."""
        return (self.tp + self.fn) / max(self.tp + self.fp + self.fn + self.tn, 1)


def grouped(rows: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Group rows by data set and class, in the order of the names."""
    return {name: [row for row in rows if row.group == name] for name in sorted({row.group for row in rows})}


def best_median_worst(rows: Sequence[Scored]) -> dict[str, Scored]:
    """
    Choose from the rows of one group, the worst first. The best has a lesion, since an empty prediction of an empty
    mask scores 1 as well.
    """
    lesions = [row for row in rows if row.lesion > 0] or rows
    return {"best": lesions[-1], "median": rows[len(rows) // 2], "worst": rows[0]}


def failures(rows: Sequence[Scored]) -> dict[str, Any]:
    """Return the values of ``failures.html.j2``: the poor scores by group and lesion size, and all rows."""
    groups = {}
    for name, group in grouped(rows).items():
        by_size: list[Cells] = []
        for title, (low, high) in SIZES.items():
            alike = [row for row in group if low < row.lesion <= high]
            dice = f"{np.mean([row.dice for row in alike]):.3f}" if alike else "-"
            poor, missed = sum(row.dice < POOR for row in alike), sum(row.tp == 0 for row in alike)
            by_size.append([title, len(alike), dice, poor, missed])
        empty = [row for row in group if row.lesion == 0]
        groups[name] = {"by_size": by_size, "empty": len(empty), "marked": sum(row.fp > 0 for row in empty)}
    listed: list[Cells] = []
    for row in rows:
        what = "missed" if row.tp == 0 else "partly found" if row.dice < POOR else "found"
        if row.lesion == 0:
            what = "empty mask, marked" if row.fp else "empty mask, left empty"
        listed.append([row.group, row.name, f"{row.dice:.3f}", f"{100 * row.lesion:.1f} %", what])
    return {"limit": POOR, "groups": groups, "listed": listed}


def parsed(config: dict[str, Any]) -> ConfigParser:
    """Return a parser of a config as it was run, but for one process and a device of this machine."""
    config = copy.deepcopy(config)
    config["validate"]["dataloader"].pop("sampler", None)  # of an evaluation in several processes
    parser = ConfigParser(config)
    parser.update({"check_data": False, "num_workers": 0})
    if "LOCAL_RANK" in str(config["device"]):
        parser["device"] = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
    return parser


def predict(
    parser: ConfigParser,
    items: Mapping[Case, dict[str, str]],
    kept: Callable[[Case, Segmented], Any] = lambda case, segmented: segmented,
) -> dict[Case, Any]:
    """
    Segment the cases in ``items`` at native size, volumes as the slices with most of the mask. Return for each what
    ``kept`` makes of it, so that not all images are in memory.
    """
    parser["validate#dataset#data"] = list({path: item for (path, _), item in items.items()}.values())
    parser["validate#handlers"] = []
    load_weights(parser.get_parsed_content("network"), parser.get_parsed_content("checkpoint"))
    evaluator = parser.get_parsed_content("validate#evaluator")
    cropped = is_cropped(parser)
    found: dict[Case, Any] = {}

    def keep(engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output):
            path = str(item["image"].meta["filename_or_obj"])
            for index in (index for name, index in items if name == path):
                channel = index if len(output["pred"]) > 1 else 0  # one channel has no background
                masks = [output[key][channel].cpu().numpy() > 0 for key in ("label", "pred")]
                image, (mask, pred) = picture(path, *(mask.T if mask.ndim == 2 else mask for mask in masks))
                image = boxed(image, find_view(image)) if cropped else image
                found[path, index] = kept((path, index), (image, mask, pred))

    evaluator.add_event_handler("ITERATION_COMPLETED", keep)
    evaluator.run()
    return found


def is_cropped(parser: ConfigParser) -> bool:
    """Return whether images are cropped to the endoscope's picture; earlier versions had no such step."""
    return parser.get("transforms#view#_target_", "Identityd") != "Identityd"


def overlay(title: str, segmented: Segmented, height: int) -> Image.Image:
    """Draw three panels side by side: the image alone, with its mask's outline, and with its prediction's outline."""
    image, mask, pred = segmented
    panels = [image, outlined(image, mask, MASK_COLOR), outlined(image, pred, PREDICTION_COLOR)]
    return side_by_side(panels, title, height)


def thumbnail(segmented: Segmented) -> str:
    """Return a small image with the outlines of mask and prediction, as a data URI."""
    image, mask, pred = segmented
    shown = Image.fromarray(outlined(outlined(image, mask, MASK_COLOR, 0), pred, PREDICTION_COLOR, 0))
    return thumbnail_uri(shown, (2 * THUMBNAIL, THUMBNAIL))


def curves(epochs: Sequence[dict[str, str]]) -> bytes:
    """Draw loss and Dice of every epoch, as PNG."""
    figure = new_figure(10, 3.6)
    for axis, (title, lines) in zip(figure.subplots(1, 2), CURVES.items()):
        for column, label in lines.items():
            points = [(int(row["epoch"]), float(row[column])) for row in epochs if row.get(column)]
            if points:
                axis.plot(*zip(*points), marker="." if len(points) < 50 else None, label=label)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    return to_png(figure)


def calibration(summary: dict[str, Any]) -> bytes:
    """Plot the share of lesion pixels against the probability that the network states, as PNG."""
    figure = new_figure(4.6, 4.2)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, one in summary.items():
        pixels, probability, lesion = np.array([row for row in one["calibration"] if row[0] > 0]).T
        label = f"{name} (ECE {score_cells(one)['ECE']})"
        axis.plot(probability / pixels, lesion / pixels, marker=".", label=label)
    axis.set(xlabel="probability", ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
    axis.legend()
    return to_png(figure)


def detection(found: Mapping[str, Any]) -> bytes:
    """Draw which images and which lesions are found from certainty 0.5 on, with the operating point, as PNG."""
    figure = new_figure(10, 4.2)
    images, lesions = figure.subplots(1, 2)
    for name, one in found.items():
        rows = np.array([*one["curve"], one["point"]], float)  # None becomes nan, which is not drawn
        certainty, sensitivity, specificity, share, alarms = rows.T
        for axis, x, y in ((images, 1 - specificity, sensitivity), (lesions, alarms, share)):
            (line,) = axis.plot(x[:-1], y[:-1], ".-", markersize=3, label=f"{name} (certainty {certainty[-1]:.3g})")
            axis.plot(x[-1], y[-1], "o", markersize=9, color=line.get_color())
    images.set(xlabel="marked images without a lesion", ylabel="marked images with a lesion", xlim=(-0.02, 1.02))
    lesions.set(xlabel="false alarms per 100 images", ylabel="lesions found")
    for axis in (images, lesions):
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    return to_png(figure)


def detection_table(found: Mapping[str, Any]) -> list[Cells]:
    """Return a header, then a row per data set and class: rates at the operating point, and where false alarms are."""
    kinds = ("without", "with")
    titles = [*(score.title for score in DETECTION_SCORES), *(f"false alarms {kind} a lesion" for kind in kinds)]
    rows: list[Cells] = [["data set", *titles]]
    for name, one in found.items():
        alarms = (f"{one[f'alarms_{kind}']} on {one[f'images_{kind}']} images" for kind in kinds)
        rows.append([name, *(score.cell(one) for score in DETECTION_SCORES), *alarms])
    return rows


def score_rows(summary: dict[str, Any]) -> list[Cells]:
    """Return a header, then a row per data set and class, with the scores of ``SHOWN_SCORES`` that are available."""
    cells = {f"{name} ({one['images']})": score_cells(one) for name, one in summary.items()}
    titles = [title for title in SHOWN_SCORES if any(title in row for row in cells.values())]
    rows: list[Cells] = [[name, *(row.get(title, "-") for title in titles)] for name, row in cells.items()]
    return [["data set (images)", *titles], *rows]


def about_training(
    folder: Path, noted: dict[str, Any], epochs: Sequence[dict[str, str]], scored: Iterable[str]
) -> list[Cells]:
    """Return what run.json and metrics.csv say of the training, and whether scored images were trained on."""
    start = noted["starts"][-1]
    validated = [(float(row["val_mean_dice"]), int(row["epoch"])) for row in epochs if row.get("val_mean_dice")]
    best = "best validation Dice {:.3f} in epoch {}".format(*max(validated)) if validated else "never validated"
    about: list[Cells] = []
    try:
        lists = pairs_of_run(noted["config"])
    except InputError:  # the data was moved; the scores do not need it
        about.append(["WARNING", "training data not found: overlap with the scored images not checked"])
    else:
        about += [[f"{name} pairs", len(pairs)] for name, pairs in lists.items()]
        if seen := trained_among(scored, folder):
            about.append(
                ["WARNING", f"{len(seen)} of the scored images were trained on: the scores say nothing of others"]
            )
    return [
        *about,
        ["epochs", f"{epochs[-1]['epoch']}, {best}"],
        ["minutes", f"{sum(float(row['seconds']) for row in epochs) / 60:.1f}"],
        ["started", ", ".join(one["time"] for one in noted["starts"])],
        ["device", start["device"]],
        ["git", start["git"]],
        ["packages", ", ".join(f"{name} {number}" for name, number in start["packages"].items())],
    ]


def main(argv: Sequence[str] | None = None) -> None:
    options = new_parser(__doc__)
    options.add_argument("output_dir", type=Path, help="output folder of training and evaluating")
    folder = options.parse_args(argv).output_dir

    paths = [folder / "evaluation" / name for name in ("summary.json", "config.json", "scores.csv")]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} does not exist: run evaluating writes it. Name its output_dir.")
    summary, config = (json.loads(path.read_text()) for path in paths[:2])
    lines = read_csv(paths[2])
    several = len({line["class"] for line in lines}) > 1
    rows = sorted((Scored.from_row(line, several) for line in lines), key=lambda row: row.dice)
    parser = parsed(config)
    section = parser.get_parsed_content("eval_section")
    with unwrapped():
        items = {item["image"]: item for item in parser.get_parsed_content("eval_datalist")[section]}

    images = {"calibration": calibration(summary)}
    found = {name: one["detection"] for name, one in summary.items() if "detection" in one}
    images |= {"detection": detection(found)} if found else {}  # evaluations of earlier versions have none
    about: list[Cells] = [["images", config["dataset_dir"]], ["weights", parser.get_parsed_content("checkpoint")]]
    noted = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {"config": {}}
    if noted["config"] and (folder / "metrics.csv").is_file():
        epochs = read_csv(folder / "metrics.csv")
        images["curves"] = curves(epochs)
        about += about_training(folder, noted, epochs, items)

    chosen = [
        (f"{name}, {which}", row)
        for name, group in grouped(rows).items()
        for which, row in best_median_worst(group).items()
    ]
    worst = rows[:MOST_SHOWN]
    whole = {row.case for _, row in chosen}
    segmented = predict(
        parser,
        {row.case: items[row.image] for row in (*worst, *(row for _, row in chosen))},
        lambda case, one: (one if case in whole else None, thumbnail(one)),
    )
    volumes = any("surface_dice" in line for line in lines)
    height = VOLUME_PANEL_HEIGHT if volumes else PANEL_HEIGHT
    overlays = [
        overlay(f"{title}: {row.name}  Dice {row.dice:.3f}", segmented[row.case][0], height) for title, row in chosen
    ]
    images["overlays"] = encoded(stacked(overlays), "PNG")

    for name, content in images.items():
        write_atomic(folder / "report" / f"{name}.png", content)
    page = render(
        "report.html.j2",
        title=folder.name,
        about=about,
        several=several,
        scores=score_rows(summary),
        volumes=volumes,
        cropped=is_cropped(parser),
        surface_tolerance=config.get("surface_tolerance"),
        failures=failures(rows),
        detections=detection_table(found),
        worst=[{"name": f"{row.name}: {row.dice:.3f}", "uri": segmented[row.case][1]} for row in worst],
        images={"curves": None, "detection": None, **{name: data_uri(content) for name, content in images.items()}},
        training_options=[[key, noted["config"][key]] for key in TRAINING_OPTIONS if key in noted["config"]],
        evaluation_options=[[key, plain_option(config, key)] for key in EVALUATION_OPTIONS],
        config=json.dumps(config, indent=1),
    )
    write_atomic(folder / "report.html", page)
    print(f"report: {folder / 'report.html'}; its images: {folder / 'report'}")


if __name__ == "__main__":
    run(main)
