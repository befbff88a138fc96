"""The documents run: each ```python block, and what it prints is the ```text block behind it.

NORIA_UPDATE_DOCS=1 writes what is printed now into the documents.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ["docs/route.md", "README.md"]
_BLOCK = re.compile(r"```python\n(?P<code>.*?)```(?P<gap>\n+)(```text\n(?P<text>.*?)```)?", re.S)


@pytest.mark.parametrize("name", DOCS)
def test_document_runs_and_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / name
    text = path.read_text()
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "document"}
    out, place = [], 0
    for block in _BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + block["code"], name, "exec"), space)
        if block["text"] is None:
            continue
        if os.environ.get("NORIA_UPDATE_DOCS"):
            out.append(text[place : block.start("text")] + printed.getvalue())
            place = block.end("text")
            continue
        assert printed.getvalue() == block["text"], f"{path}:{line} prints something else"
    assert _BLOCK.search(text), f"{name} has no code"
    if os.environ.get("NORIA_UPDATE_DOCS"):
        path.write_text("".join(out) + text[place:])
