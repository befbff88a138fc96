"""`noria flags`."""

from __future__ import annotations

import sys
import textwrap

import click
from rich.text import Text

from noria.cli.console import console, is_terminal
from noria.core.flags import Row, flags


@click.command()
def command() -> None:
    """List the switches and their present values.

    Each is an environment variable, and an argument of `noria.flags.set` in Python.
    """
    out = console()
    width = min(out.width, 100) if is_terminal(sys.stdout) else 100
    for row in flags.describe():
        out.print(_entry(row, width))


def _entry(row: Row, width: int) -> Text:
    changed = row.origin != "default"
    text = Text.assemble(
        (row.env, "bold"),
        (f"={row.value}", "bold cyan" if changed else ""),
        (f"  ({row.origin}, default {row.default or 'empty'})" if changed else "", "dim"),
    )
    for line in textwrap.wrap(row.doc, width - 4):
        text.append(f"\n    {line}")
    return text
