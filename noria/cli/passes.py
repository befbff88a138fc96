"""`noria passes`."""

from __future__ import annotations

from pathlib import Path

import click

from noria.ir.save import load
from noria.passes import pipeline


@click.command()
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--why", metavar="PASS", help="Only this pass: where it fired, and why not elsewhere.")
def command(model: Path | None, why: str | None) -> None:
    """List the passes, or tell why one did not fire.

    \b
    Examples:
      noria passes                                     the order, with reasons
      noria passes best.noria                          what each did to a model
      noria passes best.noria --why fuse_linear        and why it declined
    """
    if model is None:
        click.echo(pipeline.describe())
        return
    program, _ = load(model)
    click.echo(pipeline.explain(program, why))
