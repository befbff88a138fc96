"""The command line: `noria train | run | show | passes | bench | flags`.

Commands are loaded when they are called, so `noria --help` is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from noria.core.errors import NoriaError

COMMANDS = {
    "train": "Train a model of the zoo.",
    "run": "Run a saved model on arrays.",
    "show": "Show a saved model: text, parameters, operations, memory plan.",
    "passes": "List the passes, or tell why one did not fire.",
    "flags": "List the switches and their present values.",
}


class _Lazy(click.Group):
    """Imports a command's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"noria.cli.{name}").command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="noria", prog_name="noria")
def cli() -> None:
    """noria: models become Programs that are planned, run and shipped.

    \b
    Examples:
      noria train digits                    learn handwritten digits, about half a minute
      noria show runs/digits/best.noria     what is in a saved model
      noria run runs/digits/best.noria --input image=x.npy --output y.npz

    \b
    Tab completion (bash):  eval "$(_NORIA_COMPLETE=bash_source noria)"
    """


def main(args: list[str] | None = None) -> Any:
    """Entry point. A NoriaError is printed as its four lines, without a stack."""
    try:
        return cli.main(args, prog_name="noria")
    except NoriaError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
