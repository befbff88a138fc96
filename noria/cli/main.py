"""The command line: `noria train | run | show | convert | bench | profile | passes | flags`.

Commands, and what colours the terminal, are loaded when they are called: `noria --help` is quick.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import click
from click.shell_completion import CompletionItem

from noria.core.errors import NoriaError, nearest
from noria.core.flags import flags

COMMANDS = {
    "train": "Train a model of the zoo.",
    "run": "Run a saved model on arrays.",
    "show": "Show a saved model: text, state, operators, memory plan.",
    "convert": "Convert models: ONNX, Paddle, Caffe, Caffe2, PyTorch's weights.",
    "bench": "Time a saved model: latency and throughput.",
    "profile": "Tell where the time of a step goes.",
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
        return importlib.import_module(f"noria.cli.{name}").command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        known = [CompletionItem(n, help=h) for n, h in COMMANDS.items() if n.startswith(incomplete)]
        return [*known, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}': {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="noria", prog_name="noria")
def cli() -> None:
    """noria: models become Programs that are planned, run and shipped.

    \b
    Examples:
      noria train digits                    learn handwritten digits, seconds
      noria show runs/digits/best.noria     what is in a saved model
      noria run runs/digits/best.noria --input image=x.npy --output y.npz
      noria convert model.onnx model.noria   bring a model of another framework
      noria bench runs/digits/best.noria --size N=1,16,64
      noria profile resnet50 --size N=16    where the time of a training step goes

    \b
    Tab completion (bash):  eval "$(_NORIA_COMPLETE=bash_source noria)"
                   (zsh):   eval "$(_NORIA_COMPLETE=zsh_source noria)"
    """


def main(args: list[str] | None = None) -> Any:
    """Entry point. A NoriaError is printed as its four lines; NORIA_DEBUG=1 adds the stack.

    Exit codes: 0 done, 1 an error, 2 a misspelt command line, 130 interrupted.
    """
    try:
        return cli.main(args, prog_name="noria")
    except (NoriaError, OSError) as error:
        _report(error)
    except Exception as error:
        _report(error, "internal error")
        click.echo("  try      NORIA_DEBUG=1 shows where; please report it", err=True)
    sys.exit(1)


def _report(error: BaseException, *kind: str) -> None:
    try:
        wanted = flags.debug >= 1
    except NoriaError:  # the flag itself is what is wrong
        wanted = False
    if wanted:
        traceback.print_exc()
    importlib.import_module("noria.cli.console").print_error(error, *kind)
