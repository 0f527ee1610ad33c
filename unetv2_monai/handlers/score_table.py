# SPDX-License-Identifier: Apache-2.0
"""Score the images of an evaluation: write a row per image, and write and print a summary per data set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import convert_to_numpy, ensure_tuple, string_list_all_gather

from ..bundle.context import running_config
from ..bundle.run_folder import trained_among
from ..core.files import write_atomic, write_csv
from ..core.lesions import lesion_columns, lesion_rows, measure_lesions
from ..detection import DETECTED, LOW, OVERLAPS, Detections, detect
from ..metrics import calibration_bins, count_scores, hausdorff_95, summarise, surface_dice

__all__ = ["SCORES", "ScoreTable", "group_name", "score_cells", "table"]


@dataclass(frozen=True)
class Score:
    """A mean over images: its key in ``summary.json``, and how it is shown. Not all evaluations have optional ones."""

    key: str
    title: str
    digits: int = 3
    optional: bool = False

    def cell(self, scores: Mapping[str, Any]) -> str:
        """Return the mean and its interval as text, ``"-"`` if a summary lacks it."""
        value = scores.get(self.key)
        return _with_interval(value["mean"], value["interval"], self.digits) if value else "-"


SCORES = (
    Score("dice", "Dice"),
    Score("iou", "IoU"),
    Score("mae", "MAE", 4),
    Score("hd95", "HD95", 1),
    Score("surface_dice", "surface Dice", optional=True),
    Score("precision", "precision"),
    Score("recall", "recall"),
    Score("agreement", "agreement of the networks", optional=True),
)
DETECTION_SCORES = (
    Score("auc", "images: AUC"),
    Score("sensitivity", "images: sensitivity"),
    Score("specificity", "images: specificity"),
    Score("found", "lesions found"),
    Score("false_alarms", "false alarms per 100 images", 1),
    *(
        Score(f"{key}_iou{ending}", f"{title} at IoU > {least}")
        for ending, least in OVERLAPS.items()
        for key, title in (("found", "lesions found"), ("false_positives", "false positives per image"))
    ),
)


class ScoreTable:
    """Score every image at its native size. Write ``scores.csv`` (a row per image and class), ``detections.csv`` (a row
    per image, lesion and marked region), ``lesions.csv`` (what is measured on each lesion of the masks),
    ``summary.json`` and the config as ``config.json``, and print a table with one column per data set. Several
    processes may share the images.

    The scores of an image are Dice, IoU, precision, recall, the 95 % Hausdorff distance (``hd95``) and the mean
    absolute error of the probability (``mae``). The predicted mask is the output ``pred`` of the evaluator. ``hd95`` is
    in pixels, or in mm for volumes, and exists only if mask and prediction both have pixels. Volumes also get the
    surface Dice (``surface_dice``), and an ensemble its ``agreement``, see :py:func:`unetv2_monai.agreement`.

    Args:
        output_dir: folder to write to.
        dataset: name of the data set for items that have no ``dataset``.
        out_channels: output channels of the network; of several, the first is background. Defaults to 1.
        surface_tolerance: tolerance of the surface Dice of volumes, in mm. Defaults to 1.0.
        certainty: a region counts if its probability reaches this; of several classes all count. Defaults to 0.5.
        checkpoint: the weights, or those of an ensemble. If a run of theirs trained on scored images, a warning says
            so. Defaults to None: no warning.

    Raises:
        InputError: when ``output_dir`` cannot be written.
    """

    def __init__(
        self,
        output_dir: str,
        dataset: str,
        out_channels: int = 1,
        surface_tolerance: float = 1.0,
        certainty: float = LOW,
        checkpoint: str | Sequence[str] | None = None,
    ) -> None:
        self.output_dir, self.checkpoints = Path(output_dir), [*map(Path, ensure_tuple(checkpoint or ()))]
        self.dataset, self.out_channels = dataset, out_channels
        self.surface_tolerance, self.certainty = surface_tolerance, certainty
        self.point = certainty if out_channels == 1 else 0.0  # regions count from here on
        self.config = running_config()
        self.rows: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output has ``pred``, ``prob`` and ``label``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.rows = []

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            for channel in range(self.out_channels > 1, len(output["pred"])):
                pred, label = (output[key][channel].bool() for key in ("pred", "label"))
                prob = output["prob"][channel].float()
                valid = output.get("valid", torch.ones_like(label)[None])[0].bool()  # without unknown pixels
                tp, fp = (pred & label).sum().item(), (pred & ~label).sum().item()
                fn = (~pred & label).sum().item()
                row = {"dataset": item.get("dataset", self.dataset)}
                row |= {"image": str(item["image"].meta["filename_or_obj"]), "class": max(channel, 1)}
                row |= count_scores(tp, fp, fn) | {"mae": (prob - label.float()).abs()[valid].mean().item()}
                spacing = getattr(output["label"], "pixdim", None)
                row["hd95"] = hausdorff_95(pred, label, spacing)
                if label.ndim == 3:
                    row["surface_dice"] = surface_dice(pred, label, self.surface_tolerance, spacing)
                if "agreement" in output:
                    row["agreement"] = output["agreement"][max(channel, 1) - 1].item()
                row |= {"tp": tp, "fp": fp, "fn": fn, "tn": int(valid.sum()) - tp - fp - fn}
                row["bins"] = calibration_bins(prob[valid], label[valid]).tolist()
                # below certainty, the mask of one structure lacks regions that count at other operating points
                shown, marked, lesion = map(convert_to_numpy, (prob, pred | (prob >= LOW), label))
                row["detected"] = detect(shown, marked, lesion, self.point)
                mask = convert_to_numpy(pred).astype(np.uint8) * max(channel, 1)
                sizes = [float(size) for size in spacing] if spacing is not None and mask.ndim == 3 else None
                row["lesions"] = measure_lesions(mask, shown, sizes)
                self.rows.append(json.dumps(row))

    def _write(self, engine: Engine) -> None:
        rows = [json.loads(row) for row in string_list_all_gather(self.rows)]
        if idist.get_rank() > 0:
            return
        summary = {}
        for name in sorted({group_name(row, self.out_channels > 2) for row in rows}):
            group = [row for row in rows if group_name(row, self.out_channels > 2) == name]
            summary[name] = summarise(group, np.sum([row["bins"] for row in group], axis=0))
            summary[name]["detection"] = Detections([row["detected"] for row in group]).summary(self.point)
        write_atomic(self.output_dir / "config.json", json.dumps(self.config, indent=1, default=str) + "\n")
        write_atomic(self.output_dir / "summary.json", json.dumps(summary, indent=1) + "\n")
        columns = [key for key in rows[0] if key not in ("bins", "detected", "lesions")]
        write_csv(self.output_dir / "scores.csv", rows, columns)
        found = [{**row, **dict(zip(DETECTED, one))} for row in rows for one in row["detected"]]
        write_csv(self.output_dir / "detections.csv", found, ["dataset", "image", "class", *DETECTED])
        columns = lesion_columns(3 if "surface_dice" in rows[0] else 2)
        found = [
            {"dataset": row["dataset"], **dict(zip(columns, cells))}
            for row in rows
            for cells in lesion_rows(row["image"], "", row["lesions"])
        ]
        write_csv(self.output_dir / "lesions.csv", found, ["dataset", *columns])
        print(table(summary))
        images = {row["image"] for row in rows}
        records = [path.parent.parent / "run.json" for path in self.checkpoints]
        if seen := {image for record in records for image in trained_among(images, record.parent)}:
            print(
                f"WARNING: {len(seen)} of the {len(images)} scored images were trained on, as "
                f"{', '.join(map(str, records))} says: the scores say nothing of other images"
            )


def table(summary: Mapping[str, Any]) -> str:
    """Return the summaries as text with one column per data set: means with 95 % intervals, then other scores."""
    columns = {f"{name} ({one['images']})": score_cells(one) for name, one in summary.items()}
    titles = dict.fromkeys(title for column in columns.values() for title in column)
    cells = [["", *columns], *([title, *(column.get(title, "-") for column in columns.values())] for title in titles)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)


def score_cells(one: Mapping[str, Any]) -> dict[str, str]:
    """Return a dict from title to text of the scores in a summary, ``"-"`` if missing. Volumes have more scores."""
    pooled, free, detection = one["pooled"], one["lesion_free"], one.get("detection", {})
    return {
        **{score.title: score.cell(one) for score in SCORES if score.key in one or not score.optional},
        **({"agreement: rank correlation with Dice": _rank(one["agreement"])} if "agreement" in one else {}),
        "pooled Dice": _with_interval(pooled["dice"], pooled["dice_interval"]),
        "pooled IoU": f"{pooled['iou']:.3f}",
        "ECE": f"{one['ece']:.4f}",
        "lesions missed": f"{one['missed']}",
        "false positives without a lesion": f"{free['images'] - free['left_empty']} of {free['images']}",
        **{score.title: score.cell(detection) for score in DETECTION_SCORES if detection},
    }


def group_name(row: Mapping[str, Any], several: bool) -> str:
    """Return the name of the group that a row is summarised in: its data set, and its class if there are several."""
    return f"{row['dataset']} class {row['class']}" if several else row["dataset"]


def _rank(agreement: Mapping[str, Any]) -> str:
    return "-" if agreement["spearman"] is None else f"{agreement['spearman']:.2f}"


def _with_interval(value: float, interval: Sequence[float] | None, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else text
