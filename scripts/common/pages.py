# SPDX-License-Identifier: Apache-2.0
"""Make the parts of pages: tables, diagrams, and HTML from ``templates/`` that needs no other file."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.files import encoded

CURVES = {
    "loss": {"train_mean_loss": "training"},
    "mean Dice": {"train_mean_dice": "training (augmented)", "val_mean_dice": "validation"},
}
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """Return the HTML of a file in ``templates/``; the values of its variables are escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def thumbnail_uri(image: Image.Image, size: tuple[int, int]) -> str:
    """Return an image, made small enough for a size, as the data URI of a JPEG file."""
    image.thumbnail(size)
    return data_uri(encoded(image, "JPEG", quality=80), "jpeg")


def data_uri(content: bytes, kind: str = "png") -> str:
    """Return an image as a data URI, so that the page contains it; ``kind``: ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a Markdown table of rows, which are dicts from column title to cell. A missing cell becomes ``-``."""
    columns = list(dict.fromkeys(title for row in rows for title in row))
    lines = [columns, *([str(row.get(title, "-")) for title in columns] for row in rows)]
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(columns) + "|", *rest])


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
        label = f"{name} (ECE {one['ece']:.4f})"
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


def new_figure(width: float, height: float) -> Any:
    """Make an empty figure; sizes are in inches. Raises InputError without matplotlib, which is an extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("matplotlib is missing: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Any) -> bytes:
    """Return the figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
