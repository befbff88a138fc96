"""`noria flags`."""

from __future__ import annotations

import sys
import textwrap

import click
from rich.text import Text

from noria.cli.console import console, is_terminal
from noria.core.flags import Row, flags
from noria.core.machine import caches
from noria.kernels.numba import loader
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.onednn import lib as onednn
from noria.runtime.profiling.peaks import machine

SETS = ("avx2", "fma", "avx512f", "avx512bf16", "amx-bf16", "neon", "sve")
"""Instructions that decide how fast products are."""


@click.command()
def command() -> None:
    """List the switches and their present values, and what the engine makes of this machine.

    Each is an environment variable, and an argument of `noria.flags.set` in Python.
    """
    out = console()
    width = min(out.width, 100) if is_terminal(sys.stdout) else 100
    for row in flags.describe():
        out.print(_entry(row, width))
    out.print(Text("\n".join(["", *_machine()])))


def _machine() -> list[str]:
    """CPU, threads, caches, oneDNN: what a report of an error should tell."""
    name, features = loader.cpu()
    told = [f for f in SETS if f"+{f}" in features.split(",")]
    sizes = ", ".join(f"{size >> 10} KB" for size in caches())
    usable, reason = onednn.available()
    return [
        f"CPU      {machine()}",
        f"code     {name} {' '.join(told)}: vectors of {WIDTH} float32",
        f"threads  {thread_count()}",
        f"caches   {sizes}, the last for all CPUs",
        f"products {reason}" if usable else f"products without oneDNN: {reason.splitlines()[0]}",
    ]


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
