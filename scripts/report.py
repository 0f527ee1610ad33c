#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Turn a run into one page that needs no other file: curves, scores with intervals, best, median and worst image with
outlines, failures by size of the lesion, calibration, data and config.

    python scripts/report.py output

reads what ``run evaluating``, and if it was run there ``run training``, left in ``output``, and writes
``output/report.html``, and its pictures to ``output/report/``. The few images that it shows are segmented again.
"""

from __future__ import annotations

import argparse
import base64
import copy
import csv
import html
import io
import json
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.bundle import ConfigParser
from overlay import stacked, strip
from PIL import Image

from unetv2_monai import InputError, to_rgb
from unetv2_monai.files import write_atomic

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
except ImportError:
    sys.exit("error: matplotlib is missing: pip install matplotlib")

SCORES = {
    "dice": "Dice", "iou": "IoU", "mae": "MAE", "hd95": "HD95", "precision": "precision", "recall": "recall",
}  # fmt: skip
SIZES = ((0, 0.02, "small: up to 2 % of the image"), (0.02, 0.1, "medium: 2 to 10 %"), (0.1, 1, "large: over 10 %"))
POOR, SHOWN = 0.5, 50
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }
img { max-width: 100%; height: auto }
pre { background: #f5f5f5; padding: 1rem; overflow: auto }
h2 { margin-top: 2.5rem }
"""


def read(folder: Path, name: str) -> str:
    """A file that evaluating wrote."""
    path = folder / "evaluation" / name
    if not path.is_file():
        raise InputError(f"{path} does not exist: run evaluating writes it. Name its output_dir.")
    return path.read_text()


def parsed(config: dict[str, Any]) -> ConfigParser:
    """A config as it was run."""
    config = copy.deepcopy(config)
    config["validate"]["dataloader"].pop("sampler", None)  # of an evaluation in several processes
    parser = ConfigParser(config)
    parser.update({"check_data": False, "num_workers": 0})
    if "LOCAL_RANK" in str(config["device"]):
        parser["device"] = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
    return parser


def predict(parser: ConfigParser, items: Sequence[dict[str, str]]) -> dict[str, tuple[np.ndarray, ...]]:
    """Path of an image -> image, mask and prediction at native size; of volumes the slice with most of the mask."""
    parser["validate#dataset#data"] = list(items)
    parser["validate#handlers"] = parser["validate#handlers"][:1]  # the weights, no scores
    evaluator = parser.get_parsed_content("validate#evaluator")
    found: dict[str, tuple[np.ndarray, ...]] = {}

    def keep(engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output):
            path = str(item["image"].meta["filename_or_obj"])
            # all classes but the background; one channel has none
            mask, pred = (output[key].cpu().numpy()[-max(1, len(output[key]) - 1) :] > 0 for key in ("label", "pred"))
            found[path] = planes(path, mask.any(axis=0), pred.any(axis=0))

    evaluator.add_event_handler("ITERATION_COMPLETED", keep)
    evaluator.run()
    return found


def planes(path: str, mask: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, ...]:
    """RGB image, mask and prediction in two dimensions."""
    if mask.ndim == 2:
        with Image.open(path) as opened:
            return np.asarray(to_rgb(opened)), mask.T, pred.T
    index = int(mask.sum(axis=(0, 1)).argmax())
    grey = np.asanyarray(nibabel.load(path).dataobj)[..., index].astype(float)  # type: ignore[attr-defined]
    grey = 255 * (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), mask[..., index], pred[..., index]


def size_of(row: dict[str, str]) -> float:
    """Share of the image that the lesion has."""
    tp, fp, fn, tn = (int(row[name]) for name in ("tp", "fp", "fn", "tn"))
    return (tp + fn) / max(tp + fp + fn + tn, 1)


def best_median_worst(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Of one data set; the best of those with a lesion, since nothing marked where nothing is scores 1 as well."""
    ranked = sorted(rows, key=lambda row: float(row["dice"]))
    lesions = [row for row in ranked if size_of(row) > 0] or ranked
    return {"best": lesions[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def curves(rows: Sequence[dict[str, str]]) -> plt.Figure:
    """Loss and Dice of every epoch."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, title, names in (
        (axes[0], "loss", {"train_mean_loss": "training"}),
        (axes[1], "mean Dice", {"train_mean_dice": "training (augmented)", "val_mean_dice": "validation"}),
    ):
        for name, label in names.items():
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axis.plot(*zip(*points), marker="." if len(points) < 50 else None, label=label)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def calibration(summary: dict[str, Any]) -> plt.Figure:
    """Share of lesion pixels against the probability that the network states."""
    figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, one in summary.items():
        bins = np.array([row for row in one["calibration"] if row[0] > 0])
        axis.plot(bins[:, 1] / bins[:, 0], bins[:, 2] / bins[:, 0], marker=".", label=f"{name} (ECE {one['ece']:.3f})")
    axis.set(xlabel="probability", ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
    axis.legend()
    return figure


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """An HTML table; everything is escaped."""
    titles = list(header)
    lines = ["".join(f"<th>{html.escape(str(cell))}</th>" for cell in titles)] if any(titles) else []
    lines += ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def scores(summary: dict[str, Any]) -> str:
    """Means over images with 95 % intervals."""
    lines = []
    for name, one in summary.items():
        cells = [f"{name} ({one['images']})"]
        for score in SCORES:
            value = one.get(score)
            low, high = (value or {}).get("interval") or (float("nan"),) * 2
            digits = 1 if score == "hd95" else 3
            cells.append(f"{value['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if value else "-")
        lines.append([*cells, f"{one['pooled']['dice']:.3f}", f"{one['ece']:.3f}", one["missed"]])
    return table(["data set (images)", *SCORES.values(), "pooled Dice", "ECE", "missed"], lines)


def failures(rows: Sequence[dict[str, str]]) -> str:
    """Scores by size of the lesion, images without one, and the images below ``POOR``."""
    lines = []
    for low, high, title in SIZES:
        group = [row for row in rows if low < size_of(row) <= high]
        dice = f"{np.mean([float(row['dice']) for row in group]):.3f}" if group else "-"
        poor = sum(float(row["dice"]) < POOR for row in group)
        lines.append([title, len(group), dice, poor, sum(row["tp"] == "0" for row in group)])
    free = [row for row in rows if size_of(row) == 0]
    marked = sum(int(row["fp"]) > 0 for row in free)
    text = table(["lesion", "images", "mean Dice", f"Dice below {POOR}", "missed entirely"], lines)
    text += f"<p>Images with an empty mask: {len(free)}; something was marked on {marked} of them.</p>"
    poor_rows = sorted((row for row in rows if float(row["dice"]) < POOR), key=lambda row: float(row["dice"]))
    listed = [
        [row["dataset"], Path(row["image"]).name, f"{float(row['dice']):.3f}", f"{100 * size_of(row):.1f} %",
         "empty mask, marked" if size_of(row) == 0 else "missed" if row["tp"] == "0" else "partly found"]
        for row in poor_rows[:SHOWN]
    ]  # fmt: skip
    if not listed:
        return text + f"<p>No image has a Dice below {POOR}.</p>"
    more = f"<p>... and {len(poor_rows) - SHOWN} more</p>" if len(poor_rows) > SHOWN else ""
    return text + table(["data set", "image", "Dice", "lesion's share", "what"], listed) + more


def about_training(
    noted: dict[str, Any], epochs: Sequence[dict[str, str]], scored: Container[str]
) -> list[list[object]]:
    """What run.json and metrics.csv say of the training, and whether scored images were trained on."""
    start, lists = noted["starts"][-1], parsed(noted["config"]).get_parsed_content("datalist")
    validated = [(float(row["val_mean_dice"]), int(row["epoch"])) for row in epochs if row.get("val_mean_dice")]
    best = "best validation Dice {:.3f} in epoch {}".format(*max(validated)) if validated else "never validated"
    about: list[list[object]] = [[f"{name} pairs", len(pairs)] for name, pairs in lists.items()]
    if seen := sum(item["image"] in scored for item in lists["training"]):
        about.append(["WARNING", f"{seen} of the scored images were trained on: the scores say nothing of others"])
    about.append(["epochs", f"{epochs[-1]['epoch']}, {best}"])
    about.append(["minutes", f"{sum(float(row['seconds']) for row in epochs) / 60:.1f}"])
    about.append(["started", ", ".join(one["time"] for one in noted["starts"])])
    about += [["device", start["device"]], ["git", start["git"]]]
    return [*about, ["packages", ", ".join(f"{name} {number}" for name, number in start["packages"].items())]]


def embedded(content: bytes, text: str) -> str:
    """A PNG as part of the page."""
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("output_dir", type=Path, help="of training and evaluating")
    folder = options.parse_args(arguments).output_dir

    summary = json.loads(read(folder, "summary.json"))
    rows = list(csv.DictReader(io.StringIO(read(folder, "scores.csv"))))
    config = json.loads(read(folder, "config.json"))
    parser = parsed(config)
    section = parser.get_parsed_content("eval_section")
    items = {item["image"]: item for item in parser.get_parsed_content("eval_datalist")[section]}
    chosen = {
        (name, which): row
        for name in dict.fromkeys(row["dataset"] for row in rows)
        for which, row in best_median_worst([row for row in rows if row["dataset"] == name]).items()
    }
    found = predict(parser, [items[path] for path in dict.fromkeys(row["image"] for row in chosen.values())])
    overlays = stacked(
        [
            strip(f"{name}, {which}: {Path(row['image']).name}  Dice {float(row['dice']):.3f}", *found[row["image"]])
            for (name, which), row in chosen.items()
        ]
    )

    about = [["images", config["dataset_dir"]], ["weights", parser.get_parsed_content("checkpoint")]]
    drawn: dict[str, Callable[[io.BytesIO], None]] = {
        "calibration": lambda opened: calibration(summary).savefig(opened, format="png", dpi=110),
        "overlays": lambda opened: overlays.save(opened, "PNG"),
    }
    if (folder / "run.json").is_file() and (folder / "metrics.csv").is_file():
        noted = json.loads((folder / "run.json").read_text())
        epochs = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
        drawn["curves"] = lambda opened: curves(epochs).savefig(opened, format="png", dpi=110)
        about += about_training(noted, epochs, items)
    pictures = {}
    for name, draw in drawn.items():
        buffer = io.BytesIO()
        draw(buffer)
        pictures[name] = buffer.getvalue()
        write_atomic(folder / "report" / f"{name}.png", pictures[name])
    plt.close("all")
    training = ""
    if "curves" in pictures:
        training = f"<h2>Training</h2>{embedded(pictures['curves'], 'loss and Dice per epoch')}"

    shown = ("backbone", "image_size", "out_channels", "max_epochs", "batch_size", "learning_rate", "seed")
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(folder.name)}</title>
<style>{STYLE}</style><h1>{html.escape(folder.name)}</h1>{table(["", ""], about)}
<h2>Scores</h2><p>Means over images at their own size, at probability 0.5, with 95 % intervals (bootstrap); HD95 in
pixels, or mm for volumes.</p>{scores(summary)}
<h2>Best, median and worst</h2><p>Image, mask (green) and prediction (yellow).</p>
{embedded(pictures["overlays"], "best, median and worst")}
<h2>Where it fails</h2>{failures(rows)}
{training}
<h2>Calibration</h2><p>Above the line the network is underconfident, below it overconfident.</p>
{embedded(pictures["calibration"], "calibration")}
<h2>Config</h2>{table(["option", "value"], ([key, config.get(key)] for key in shown))}
<details><summary>all of it</summary><pre>{html.escape(json.dumps(config, indent=1))}</pre></details></html>
"""
    write_atomic(folder / "report.html", page)
    print(f"report: {folder / 'report.html'}; its pictures: {folder / 'report'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
