"""Tables as plain text: aligned columns, no rules, no colours."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table. A title that begins with '>' is of a column set flush right."""
    right = [t.startswith(">") for t in titles]
    cells = [[t.lstrip(">") for t in titles], *([str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [_line(row, widths, right) for row in cells]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    fitted = [
        c.rjust(w) if flush else c.ljust(w) for c, w, flush in zip(row, widths, right, strict=True)
    ]
    return "  ".join(fitted).rstrip()
