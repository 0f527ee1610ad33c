# SPDX-License-Identifier: Apache-2.0
"""HTML pages that need no other file, from the templates in ``templates/``."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

__all__ = ["data_uri", "render"]

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """
    Args:
        template: name of a file in ``templates/``.
        values: of its variables; all are escaped.

    Returns:
        HTML.
    """
    return ENVIRONMENT.get_template(template).render(**values)


def data_uri(content: bytes, kind: str = "png") -> str:
    """
    Args:
        content: of an image file.
        kind: its format, ``"png"`` or ``"jpeg"``. Defaults to ``"png"``.

    Returns:
        What ``src`` of an ``<img>`` takes, so that the image is part of the page.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
