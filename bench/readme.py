"""`python -m bench.readme` writes the tables of results.json into README.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import results, table

PATH = Path(__file__).parent / "README.md"
START, END = "<!-- results: python -m bench.readme -->", "<!-- end of results -->"


def render(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands between the marks."""
    entries = [e for kind in found.values() for e in kind.values()]
    if not entries:
        return "No run yet."
    days = sorted({e["date"] for e in entries})
    where = ", ".join(sorted({e["machine"] for e in entries}))
    lines = [
        f"{' to '.join({days[0]: 0, days[-1]: 0})}, {where}, {entries[0]['threads']} threads."
        + "".join(f" {line}." for line in table.peak_lines(found)),
        "",
        table.markdown(table.COLUMNS, [r.cells() for r in table.rows(found)]),
        "",
        table.markdown(
            table.PART_COLUMNS, [table.part_cells(n, p) for n, p in found["parts"].items()]
        ),
        *(["", "Did not run:", ""] if table.problems(found) else []),
        *(f"- {line}" for line in table.problems(found)),
    ]
    return "\n".join(lines)


def replaced(text: str, inner: str) -> str:
    """The text with what stands between the marks replaced."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{inner}\n\n{END}{after}"


def main() -> None:
    PATH.write_text(replaced(PATH.read_text(), render(results.load())))


if __name__ == "__main__":
    main()
