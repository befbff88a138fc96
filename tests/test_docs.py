"""The documents run: each ```python block, and what it prints is the ```text block behind it.

NORIA_UPDATE_DOCS=1 writes what is printed now into the documents.
"""

from __future__ import annotations

import contextlib
import html
import importlib.util
import io
import os
import re
from pathlib import Path

import pytest

from noria.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ["docs/route.md", "docs/profiling.md", "docs/convert.md", "README.md"]
UPDATE = bool(os.environ.get("NORIA_UPDATE_DOCS"))
_BLOCK = re.compile(r"```python\n(?P<code>.*?)```(?P<gap>\n+)(```text\n(?P<text>.*?)```)?", re.S)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("name", DOCS)
def test_document_runs_and_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / name
    text = path.read_text()
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "document"}
    new, place = "", 0  # the document with what is printed now
    for block in _BLOCK.finditer(text):
        new += text[place : block.start()]
        line = new.count("\n") + 1  # of the fence; the code begins one below
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + block["code"], name, "exec"), space)
        new, place = new + block[0], block.end()
        if block["text"] is not None:
            now = printed.getvalue().rstrip() + "\n"
            new = new[: len(new) - len(block["text"] + "```")] + now + "```"
            assert UPDATE or now == block["text"], f"{path}:{line} prints something else"
    assert place, f"{name} has no code"
    if UPDATE:
        path.write_text(new + text[place:])


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_source_files_the_route_names_are_there() -> None:
    for names in re.findall(r"^## .*?: (.*)$", (ROOT / "docs/route.md").read_text(), re.M):
        for name in re.findall(r"`([^`]+)`", names):
            assert (ROOT / "noria" / name).exists(), name


def test_commands_of_the_readme_are_there() -> None:
    shown = re.findall(r"^noria (\w+)", (ROOT / "README.md").read_text(), re.M)
    assert set(shown) == set(COMMANDS)


def test_the_picture_shows_what_was_printed() -> None:
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs" / "make_picture.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    svg = module.picture("a command", "first & <second>\n[third]\n")
    words = [html.unescape(t).split() for t in re.findall(r">([^<>]+)</text>", svg)]
    shown = " ".join(word for group in words for word in group)
    assert "$ a command first & <second> [third]" in shown
