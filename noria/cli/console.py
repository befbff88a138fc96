"""What commands print: colours and rules on a terminal, plain aligned text anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from rich import box
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from noria.core.errors import NoriaError
from noria.core.tables import aligned

_THEME = Theme(
    {
        "noria.op": "bold cyan",
        "noria.spec": "green",
        "noria.word": "magenta",
        "noria.source": "dim",
    }
)


class _ProgramHighlighter(RegexHighlighter):
    base_style = "noria."
    highlights = [  # noqa: RUF012  # rich's own form
        r"= (?P<op>\w+)\(",
        r"(?P<spec>\b(?:bool|u?int|float|bfloat)\d*\[[^\]]*\])",
        r"(?m)^ *(?P<word>program|input|state|output|update)\b",
        r"(?m)(?P<source>  +#.*)$",
    ]


_plain: ContextVar[bool] = ContextVar("noria_plain", default=False)  # within `plain`


@contextmanager
def plain(wanted: bool = True) -> Iterator[None]:
    """Within it everything is printed as into a pipe, if it is wanted."""
    token = _plain.set(wanted)
    try:
        yield
    finally:
        _plain.reset(token)


def is_terminal(file: TextIO) -> bool:
    """Is somebody looking? Asked of the stream itself, so that a pipe is always plain."""
    return file.isatty() and os.environ.get("TERM") != "dumb" and not _plain.get()


def console(file: TextIO | None = None) -> Console:
    """rich's console on a stream, standard output by default, without colours in a pipe."""
    file = file or sys.stdout
    return Console(
        file=file,
        force_terminal=is_terminal(file),
        theme=_THEME,
        highlight=False,
        soft_wrap=True,
    )


def print_program(text: str) -> None:
    """The text form of a Program, or part of it."""
    out = console()
    out.print(_ProgramHighlighter()(Text(text)))


def heading(text: str) -> None:
    """A line above what follows."""
    console().print(Text(f"\n{text}", style="bold"))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
    """A table; a title that begins with '>' is of a column of numbers, set flush right."""
    names = [t.lstrip(">") for t in titles]
    right = [t.startswith(">") for t in titles]
    cells = [[str(c) for c in row] for row in rows]
    if is_terminal(sys.stdout):
        _print_rich(names, right, cells)
    else:
        print(*aligned(titles, cells), sep="\n")
    if caption:
        console().print(Text(caption, style="dim"))


def _print_rich(names: list[str], right: list[bool], cells: list[list[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, flush in zip(names, right, strict=True):
        table.add_column(name, justify="right" if flush else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console().print(table, soft_wrap=False)


def print_error(error: BaseException, kind: str = "error") -> None:
    """`error: what`, and for a NoriaError where, what was expected, what came, what to try."""
    text = str(error) if isinstance(error, NoriaError) else f"{type(error).__name__}: {error}"
    what, *rest = text.split("\n")
    message = Text.assemble((f"{kind}: ", "bold red"), (what, "bold"))
    for line in rest:
        message.append("\n" + line)
    console(sys.stderr).print(message)


def note(text: str) -> None:
    """A remark beside the results, on standard error."""
    console(sys.stderr).print(Text(text, style="dim"))


def bytes_text(n: float) -> str:
    """`12 B`, `606.4 kB`, `1.25 GB` (powers of 1000)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.4g} {unit}"
    return f"{n:.0f} B"
