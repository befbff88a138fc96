"""`noria passes`."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from noria.cli.console import heading, print_program, print_table
from noria.cli.precision import precision_option
from noria.core.errors import ArgumentError
from noria.ir.save import load
from noria.passes import pipeline


def _pass_names(ctx: click.Context, parameter: click.Parameter, start: str) -> list[CompletionItem]:
    names = dict.fromkeys(line.name for line in pipeline.OPTIMIZE)
    return [CompletionItem(n) for n in names if n.startswith(start)]


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--why",
    metavar="PASS",
    shell_complete=_pass_names,
    help="Only this pass: where it fired, and why not elsewhere.",
)
@precision_option
def command(model: Path | None, why: str | None) -> None:
    """List the passes, or tell why one did not fire.

    \b
    Examples:
      noria passes                                     the order, with reasons
      noria passes best.noria                          what each did to a model
      noria passes best.noria --why fuse_linear        and why it declined
    """
    if model is None:
        if why is not None:
            raise ArgumentError("--why needs a model", hint=f"noria passes MODEL --why {why}")
        rows = [(line.name, line.reason) for line in pipeline.OPTIMIZE]
        print_table(["pass", "why it stands here"], rows)
        return
    program, _ = load(model)
    if why is not None:
        print_program(pipeline.explain(program, why))
        return
    reports = pipeline.report(program)
    heading(f"{program.name}: {len(program.operators)} operators")
    print_table(
        ["pass", ">fired", ">declined"],
        [(r.name, len(r.fired), len(r.declined)) for r in reports],
        f"{len(pipeline.optimize(program).operators)} operators remain; --why PASS tells more",
    )
