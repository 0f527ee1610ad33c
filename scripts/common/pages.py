# SPDX-License-Identifier: Apache-2.0
"""HTML pages that need no other file, from the templates in ``templates/``."""

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
    """The HTML of a file in ``templates/``; the values of its variables are escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def data_uri(content: bytes, kind: str = "png") -> str:
    """What ``src`` of an ``<img>`` takes, so that an image file is part of the page; ``kind``: ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
