#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make a report of a run on one page: learning curves, scores with intervals, the best, the median and the worst image
with outlines, all images from the worst on, failures by size of the lesion, which images and lesions are found at which
certainty, calibration, the data and the config.

    python scripts/report.py output

reads what `run evaluating` wrote to `output`, and what `run training` wrote there, if anything; or, of a
cross-validation, what they wrote to `output/fold_0` and so on. It segments the images that it shows, the worst 200 at
most. Then it writes `output/report.html`, which needs no other file, and its images to `output/report/`.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.command import new_parser, run
from common.options import plain_option
from common.pages import calibration, curves, data_uri, detection, render, thumbnail_uri
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple
from PIL import Image

from unetv2_monai import InputError, load_weights
from unetv2_monai.bundle.run_folder import pairs_of_run, trained_among
from unetv2_monai.core.errors import unwrapped
from unetv2_monai.core.files import encoded, read_csv, write_atomic
from unetv2_monai.core.overlay import MASK_COLOR, PREDICTION_COLOR, boxed, outlined, side_by_side, stacked
from unetv2_monai.core.view import find_view
from unetv2_monai.data.pictures import picture
from unetv2_monai.handlers.score_table import DETECTION_SCORES, SCORES, group_name, score_cells
from unetv2_monai.metrics import summarise

SHOWN_SCORES = (*(score.title for score in SCORES), "pooled Dice", "ECE", "lesions missed")
EVALUATION_OPTIONS = ("backbone", "image_size", "out_channels")
TRAINING_OPTIONS = ("max_epochs", "batch_size", "learning_rate", "seed")
POOR = 0.5  # images with a lower Dice are poor
MOST_SHOWN, THUMBNAIL = 200, 150  # images that are shown from the worst on; pixels in height
SIZES = {  # share of the image: up to this number
    "small: up to 2 % of the image": 0.02,
    "medium: 2 to 10 %": 0.1,
    "large: over 10 %": 1,
}
PANEL_HEIGHT, VOLUME_PANEL_HEIGHT = 240, 480  # pixels

Case = tuple[str, int]  # path of an image, class
Segmented = tuple[np.ndarray, np.ndarray, np.ndarray]  # RGB, mask and prediction of one class, rows first


@dataclass(frozen=True)
class Evaluation:
    """What ``run evaluating`` wrote to ``folder/evaluation``."""

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    lines: list[dict[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        paths = [folder / "evaluation" / name for name in ("summary.json", "config.json", "scores.csv")]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path} does not exist: run evaluating writes it. Name its output_dir.")
        summary, config = (json.loads(path.read_text()) for path in paths[:2])
        return cls(folder, summary, config, read_csv(paths[2]))

    @property
    def several(self) -> bool:
        """Tell whether there are several classes."""
        return len({line["class"] for line in self.lines}) > 1


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

    @property
    def size(self) -> str:
        """Return which of ``SIZES`` the lesion has."""
        return next((title for title, most in SIZES.items() if 0 < self.lesion <= most), "none")


def grouped(rows: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Group rows by data set and class, in the order of the names."""
    return {name: [row for row in rows if row.group == name] for name in sorted({row.group for row in rows})}


def best_median_worst(rows: Sequence[Scored]) -> dict[str, Scored]:
    """Choose from the rows of one group, the worst first. The best has a lesion, since empty masks score 1 as well."""
    lesions = [row for row in rows if row.lesion > 0] or rows
    return {"best": lesions[-1], "median": rows[len(rows) // 2], "worst": rows[0]}


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
    """Segment the cases in ``items`` at native size, volumes as the slices with most of the mask. Return for each what
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


def of_all_folds(folds: Sequence[Evaluation]) -> dict[str, Any]:
    """Summarise the scores of all folds together; raise InputError when two folds have scored the same image."""
    text, seen = ("dataset", "image", "class"), set[str]()
    rows: dict[str, list[dict[str, Any]]] = {}
    for one in folds:
        if twice := seen & {line["image"] for line in one.lines}:
            raise InputError(
                f"two folds have scored {min(twice)}. Run `unetv2 evaluate DIR --folds {len(folds)}` again."
            )
        seen |= {line["image"] for line in one.lines}
        for line in one.lines:
            row = {key: value if key in text else float(value or "nan") for key, value in line.items()}
            rows.setdefault(group_name(row, folds[0].several), []).append(row)
    bins = {name: [one.summary[name]["calibration"] for one in folds if name in one.summary] for name in rows}
    return {name: summarise(group, np.sum(bins[name], axis=0)) for name, group in rows.items()}


def over_folds(folds: Sequence[Evaluation], together: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return cells by row: mean and standard deviation of the folds, and all images together, for each data set."""
    cells = {}
    for name, whole in together.items():
        parts = [one.summary[name] for one in folds if name in one.summary]
        means = {score.title: [part[score.key]["mean"] for part in parts if score.key in part] for score in SCORES}
        means["pooled Dice"] = [part["pooled"]["dice"] for part in parts]
        cells[f"{name}: mean ± standard deviation of the folds"] = {
            title: f"{np.mean(values):.3f} ± {np.std(values):.3f}" for title, values in means.items() if values
        }
        cells[f"{name}: all, out of fold ({whole['images']})"] = score_cells(whole)
    return cells


def best_of_all(folds: Sequence[Evaluation]) -> dict[Case, float]:
    """Return for each case the best Dice of all networks; nothing unless each has scored training and validation."""
    best: dict[Case, float] = {}
    paths = [one.folder / "evaluation_all" / "scores.csv" for one in folds]
    for row in (Scored.from_row(line) for path in paths if all(map(Path.is_file, paths)) for line in read_csv(path)):
        best[row.case] = max(best.get(row.case, 0), row.dice)
    return best


def about_training(folder: Path, noted: dict[str, Any], scored: Iterable[str]) -> dict[str, Any]:
    """Return what run.json and metrics.csv say of the training, and how many scored images were trained on."""
    epochs = read_csv(folder / "metrics.csv")
    validated = [(float(row["val_mean_dice"]), int(row["epoch"])) for row in epochs if row.get("val_mean_dice")]
    about = {"epochs": epochs, "best": max(validated, default=None), **noted, "lists": None, "seen": set()}
    with suppress(InputError):  # the data was moved; the scores do not need it
        about |= {"lists": pairs_of_run(noted["config"]), "seen": trained_among(scored, folder)}
    return about


def main(argv: Sequence[str] | None = None) -> None:
    options = new_parser(__doc__)
    options.add_argument("output_dir", type=Path, help="output folder of training and evaluating")
    folder = options.parse_args(argv).output_dir

    folds = [] if (folder / "evaluation").is_dir() else sorted(folder.glob("fold_*"))
    evaluations = [Evaluation.read(one) for one in folds or [folder]]
    config, several = evaluations[0].config, evaluations[0].several
    parsers = [parsed(one.config) for one in evaluations]
    rows: list[Scored] = []
    items: list[dict[str, dict[str, str]]] = []
    for one, parser in zip(evaluations, parsers):
        rows += [Scored.from_row(line, several) for line in one.lines]
        with unwrapped():
            pairs = [pair for pairs in parser.get_parsed_content("eval_datalist").values() for pair in pairs]
        items.append({ensure_tuple(pair["image"])[0]: pair for pair in pairs})
    rows.sort(key=lambda row: row.dice)
    summary = of_all_folds(evaluations) if folds else evaluations[0].summary

    images = {"calibration": calibration(summary)}
    parts = {
        f"{one.folder.name}: " * bool(folds) + name: part for one in evaluations for name, part in one.summary.items()
    }
    cells = {f"{name} ({part['images']})": score_cells(part) for name, part in parts.items()}
    cells |= over_folds(evaluations, summary) if folds else {}
    found = {name: part["detection"] for name, part in parts.items() if "detection" in part}
    images |= {"detection": detection(found)} if found else {}  # evaluations of earlier versions have none
    files = "evaluated_weights" if "evaluated_weights" in config else "checkpoint"  # as in earlier versions
    weights = [path for parser in parsers for path in ensure_tuple(parser.get_parsed_content(files))]
    noted = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {"config": {}}
    training = None
    if not folds and noted["config"] and (folder / "metrics.csv").is_file():
        training = about_training(folder, noted, items[0])
        images["curves"] = curves(training["epochs"])

    chosen = [
        (f"{name}, {which}", row)
        for name, group in grouped(rows).items()
        for which, row in best_median_worst(group).items()
    ]
    worst, best = rows[:MOST_SHOWN], best_of_all(evaluations) if folds else {}
    whole = {row.case for _, row in chosen}
    segmented: dict[Case, Any] = {}
    for parser, known in zip(parsers, items):
        cases = {row.case: known[row.image] for row in (*worst, *(row for _, row in chosen)) if row.image in known}
        segmented |= predict(parser, cases, lambda case, one: (one if case in whole else None, thumbnail(one)))
    volumes = "surface_dice" in evaluations[0].lines[0]
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
        dataset_dir=config["dataset_dir"],
        weights=weights,
        expected=config.get("folds"),
        training=training,
        several=several,
        cells=cells,
        titles=[title for title in SHOWN_SCORES if any(title in row for row in cells.values())],
        folds=len(folds),
        best=best,
        suspects=[row for row in rows if best.get(row.case, 1) < POOR],
        volumes=volumes,
        cropped=is_cropped(parsers[0]),
        surface_tolerance=config.get("surface_tolerance"),
        rows=rows,
        groups=grouped(rows),
        sizes=SIZES,
        limit=POOR,
        found=found,
        detection_scores=DETECTION_SCORES,
        worst=[{"name": f"{row.name}: {row.dice:.3f}", "uri": segmented[row.case][1]} for row in worst],
        images={"curves": None, "detection": None, **{name: data_uri(content) for name, content in images.items()}},
        training_options=[[key, noted["config"][key]] for key in TRAINING_OPTIONS if key in noted["config"]],
        evaluation_options=[[key, plain_option(config, key)] for key in EVALUATION_OPTIONS],
        config=json.dumps(config, indent=1),
    )
    write_atomic(folder / "report.html", page)
    print(f"report: {folder / 'report.html'}; its images: {folder / 'report'}")
    if not folds and any(folder.glob("fold_*/evaluation")):
        print(f"It is of {folder / 'evaluation'}. Move that folder, or the folds, for a report of the folds.")


if __name__ == "__main__":
    run(main)
