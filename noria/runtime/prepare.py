"""Kernels prepared for real sizes: steps that are alike once, those without symbols once for all.

A deep network has a hundred layers of a few kinds, and a new batch size changes nothing for the
updates of its parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from noria.core.flags import flags
from noria.ir.program import symbols_told, symbols_used
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared
from noria.runtime.plan import Plan, Step


class Choice(NamedTuple):
    """The first kernel that took the sizes (None: the reference), and why others did not."""

    kernel: Kernel | None
    prepared: Prepared | None
    refused: tuple[tuple[Kernel, str], ...] = ()


NONE = Choice(None, None)


class Preparation:
    """The choices of one Bound."""

    def __init__(self, plan: Plan, threads: int) -> None:
        surroundings = (threads, tuple(flags.snapshot().items()))
        self._always: dict[int, Choice] = plan.prepared.setdefault(surroundings, {})
        self._now: dict[int, Choice] = {}

    def known(self, step: Step) -> Choice | None:
        """The choice for a step like this one, if there was one."""
        return self._now.get(step.alike) or self._always.get(step.alike)

    def choose(self, step: Step, bound: BoundOp) -> Choice:
        """The choice for these operands, to be known from now on."""
        found = _first(step, bound)
        symbolic = symbols_used(step.op) or symbols_told(step.op)
        (self._now if symbolic else self._always)[step.alike] = found
        return found


def _first(step: Step, bound: BoundOp) -> Choice:
    refused: list[tuple[Kernel, str]] = []
    for kernel in (step.kernel, *step.others):
        assert kernel is not None
        try:
            return Choice(kernel, kernel.bind(bound), tuple(refused))
        except Declined as reason:
            refused.append((kernel, f"at binding: {reason}"))
    return Choice(None, None, tuple(refused))
