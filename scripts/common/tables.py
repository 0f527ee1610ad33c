# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from collections.abc import Mapping, Sequence

__all__ = ["markdown"]


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows of cells by column title as a table; ``-`` where a row has no such cell."""
    columns = list(dict.fromkeys(title for row in rows for title in row))
    lines = [columns, *([str(row.get(title, "-")) for title in columns] for row in rows)]
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(columns) + "|", *rest])
