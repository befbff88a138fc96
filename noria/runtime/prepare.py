"""Kernels prepared for real sizes: steps that are alike once, and again when their sizes change.

A deep network has a hundred layers of a few kinds, and a new batch size changes nothing for the
updates of its parameters, nor another number of packed rows for what has the size of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from noria.core.flags import flags
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared
from noria.runtime.plan import Plan, Step


class Choice(NamedTuple):
    """The first kernel that took the sizes (None: the reference), and why others did not."""

    kernel: Kernel | None
    prepared: Prepared | None
    refused: tuple[tuple[Kernel, str], ...] = ()


NONE = Choice(None, None)
_Sizes = tuple[int | None, ...]
_Last = dict[int, tuple[_Sizes | None, Choice | None]]  # by `Step.alike`
_NOTHING: tuple[None, None] = None, None


class Preparation:
    """The choices of one Bound."""

    def __init__(self, plan: Plan, threads: int, sizes: Mapping[str, int]) -> None:
        surroundings = (threads, tuple(flags.snapshot().items()))
        self._last: _Last = plan.prepared.setdefault(surroundings, {})
        self._sizes = sizes

    def known(self, step: Step) -> Choice | None:
        """The last choice for a step like this one, if the sizes it knows were the same."""
        sizes, choice = self._last.get(step.alike, _NOTHING)
        return choice if sizes == self._of(step) else None

    def choose(self, step: Step, bound: BoundOp) -> Choice:
        """The choice for these operands, known until one for other sizes is made."""
        found = _first(step, bound)
        self._last[step.alike] = self._of(step), found
        return found

    def _of(self, step: Step) -> _Sizes:
        return tuple([self._sizes.get(symbol) for symbol in step.symbols])


def _first(step: Step, bound: BoundOp) -> Choice:
    refused: list[tuple[Kernel, str]] = []
    for kernel in (step.kernel, *step.others):
        assert kernel is not None
        try:
            return Choice(kernel, kernel.bind(bound), tuple(refused))
        except Declined as reason:
            refused.append((kernel, f"at binding: {reason}"))
    return Choice(None, None, tuple(refused))
