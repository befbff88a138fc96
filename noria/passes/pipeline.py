"""The only place that orders passes. One plain list per pipeline, each line with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from noria.ir.program import Program

Pass = Callable[[Program], Program]

OPTIMIZE: list[Pass] = []


def run(program: Program, passes: Sequence[Pass]) -> Program:
    """Apply passes in order."""
    for p in passes:
        program = p(program)
    return program


def optimize(program: Program) -> Program:
    """What an Executor applies to every Program before planning."""
    return run(program, OPTIMIZE)
