"""`noria flags`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from noria.core.flags import flags


@click.command()
def command() -> None:
    """List the switches and their present values."""
    table = Table("variable", "value", "default", "meaning")
    for row in flags.describe():
        table.add_row(*(str(getattr(row, k)) for k in ("env", "value", "default", "doc")))
    Console().print(table)
