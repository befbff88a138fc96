"""`noria show MODEL`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import itemsize, to_numpy
from noria.core.errors import ArgumentError
from noria.ir.program import Program
from noria.ir.save import load
from noria.ir.text import format_program
from noria.runtime.executor import Executor
from noria.runtime.plan import describe
from noria.runtime.scope import Scope
from noria.runtime.summary import summary


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--size", multiple=True, metavar="N=8", help="Sizes for the memory plan, default 1.")
@click.option("--plan", is_flag=True, help="Also the kernel chosen for each operator.")
def command(model: Path, size: tuple[str, ...], plan: bool) -> None:
    """Show a saved model: text, parameters, operations, memory plan.

    \b
    Examples:
      noria show best.noria
      noria show best.noria --size N=64 --plan
    """
    program, state = load(model)
    console = Console(width=None if Console().is_terminal else 100)
    click.echo(format_program(program))
    console.print(_parameters(program))
    console.print(_operations(program))
    scope = Scope().initialize(program, values=state)
    executor = Executor(program, scope)
    bound = executor.bound(_zeros(program, _sizes(size)))
    if plan:
        click.echo(describe(bound.plan))
    click.echo(summary(bound))


def _sizes(pairs: tuple[str, ...]) -> dict[str, int]:
    out = {}
    for text in pairs:
        name, _, number = text.partition("=")
        if not number.isdigit():
            raise ArgumentError("a size is NAME=NUMBER", got=text, hint="--size N=8")
        out[name] = int(number)
    return out


def _zeros(program: Program, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    out = {}
    for v in program.block.inputs:
        names = {n: sizes.get(n, 1) for n in symbols_of(v.shape)}
        shape = tuple(evaluate(d, names) for d in v.shape)
        out[v.name] = np.zeros(shape, to_numpy(v.dtype))
    return out


def _parameters(program: Program) -> Table:
    table = Table("state", "dtype", "shape", "elements", "trained", title="State")
    total = nbytes = 0
    for s in program.state.values():
        n = int(np.prod([int(d) for d in s.value.shape], dtype=np.int64))
        total, nbytes = total + n, nbytes + n * itemsize(s.value.dtype)
        mark = "yes" if s.trainable else ""
        table.add_row(s.name, s.value.dtype, str(list(s.value.shape)), f"{n:,}", mark)
    table.caption = f"{total:,} elements, {nbytes / 1e6:,.2f} MB"
    return table


def _operations(program: Program) -> Table:
    counts = Counter(op.type for op in program.operators)
    table = Table("operator", "count", title="Operators")
    for kind, n in counts.most_common():
        table.add_row(kind, str(n))
    return table
