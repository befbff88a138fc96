"""`noria show MODEL`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from noria.cli.console import bytes_text, heading, print_program, print_table
from noria.cli.precision import precision_option
from noria.cli.sizes import one_each, parse_sizes, sample_feeds
from noria.core.dtypes import itemsize
from noria.ir.program import Program
from noria.ir.save import load
from noria.ir.text import format_program
from noria.runtime.bind import Bound
from noria.runtime.executor import Executor
from noria.runtime.plan import describe
from noria.runtime.scope import Scope
from noria.runtime.summary import summary


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--text", is_flag=True, help="Show the Program's text.")
@click.option("--state", is_flag=True, help="Show its parameters and other state.")
@click.option("--operators", is_flag=True, help="Show how often each operator occurs, its work.")
@click.option("--plan", is_flag=True, help="Show each step with its kernel, and the memory plan.")
@click.option("--size", multiple=True, metavar="N=8", help="Sizes for the plan, default 1.")
@precision_option
def command(
    model: Path, text: bool, state: bool, operators: bool, plan: bool, size: tuple[str, ...]
) -> None:
    """Show a saved model: text, state, operators, memory plan.

    MODEL is a .noria file, or the model/ directory of a checkpoint. All but the steps is shown
    unless you choose.

    \b
    Examples:
      noria show best.noria
      noria show best.noria --plan --size N=64
      noria show best.noria --text > before.txt
    """
    program, arrays = load(model)
    sizes = one_each(parse_sizes(size, program.block.inputs))
    everything = not (text or state or operators or plan)
    if text or everything:
        print_program(format_program(program).rstrip())
    if state or everything:
        _print_state(program)
    if not (operators or plan or everything):
        return
    bound = _bound(program, arrays, sizes)
    if operators or everything:
        _print_operators(program, bound)
    if plan:
        heading("Steps (* only once, ? of a size that is known when it runs)")
        print_program(describe(bound.plan))
    if plan or everything:
        heading("Memory")
        print_program(summary(bound))


def _bound(program: Program, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> Bound:
    scope = Scope().initialize(program, values=arrays)
    return Executor(program, scope).bound(sample_feeds(program.block.inputs, sizes))


def _print_state(program: Program) -> None:
    heading("State")
    rows, total, nbytes = [], 0, 0
    for s in program.state.values():
        n = int(np.prod([int(d) for d in s.value.shape], dtype=np.int64))
        total, nbytes = total + n, nbytes + n * itemsize(s.value.dtype)
        mark = "yes" if s.trainable else ""
        rows.append((s.name, s.value.dtype, list(s.value.shape), f"{n:,}", mark))
    titles = ["name", "dtype", "shape", ">elements", "trained"]
    print_table(titles, rows, f"{total:,} elements, {bytes_text(nbytes)}")


def _print_operators(program: Program, bound: Bound) -> None:
    """What was written, what the passes and the planner made of it, and who runs it."""
    written = Counter(op.type for op in program.operators)
    planned = Counter(s.op.type for s in bound.plan.steps)
    work: Counter[str] = Counter()
    for item in bound.items:
        if item.prepared is not None and item.pack is None:
            work[item.step.op.type] += int(item.prepared.work)
    kinds = sorted({*written, *planned}, key=lambda k: (-work[k], -planned[k], -written[k], k))
    heading("Operators")
    print_table(
        ["operator", ">written", ">planned", ">Mflop", "run by"],
        [
            (k, written[k] or "", planned[k] or "", _mega(work[k]), _engines(bound, k))
            for k in kinds
        ],
    )


def _mega(flops: int) -> str:
    return f"{flops / 1e6:,.3f}" if flops else ""


def _engines(bound: Bound, kind: str) -> str:
    counts = Counter(s.engine for s in bound.plan.steps if s.op.type == kind)
    several = len(counts) > 1
    return ", ".join(f"{n} {e}" if several else e for e, n in counts.most_common())
