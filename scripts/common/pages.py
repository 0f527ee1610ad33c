# SPDX-License-Identifier: Apache-2.0
"""Make the parts of pages: tables, diagrams, and HTML from ``templates/`` that needs no other file."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.files import encoded

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
