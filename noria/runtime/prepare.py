"""Kernels prepared for real sizes: steps that are alike once, and again when their sizes change.

A deep network has a hundred layers of a few kinds, and a new batch size changes nothing for the
updates of its parameters, nor another number of packed rows for what has the size of the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from noria.core.errors import EngineError, NoriaError
from noria.core.flags import flags
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared
from noria.runtime.operands import Operands
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
Notes = dict[int, dict[Any, Any]]  # `BoundOp.notes` by `Step.alike`


def surroundings(threads: int) -> tuple[Any, ...]:
    """All but the sizes that choices depend on."""
    return (threads, *flags.for_binding())


def notes_of(plan: Plan, threads: int) -> Notes:
    """What kernels found out for any sizes."""
    found: Notes = plan.prepared.setdefault(("notes", surroundings(threads)), {})
    return found


class Preparation:
    """The choices of one Bound.

    surroundings: all but the sizes that they depend on
    notes:        those of `notes_of`
    """

    def __init__(self, plan: Plan, threads: int, operands: Operands) -> None:
        self.surroundings = surroundings(threads)
        self._last: _Last = plan.prepared.setdefault(self.surroundings, {})
        self.notes = notes_of(plan, threads)
        self._plan, self._threads, self._operands = plan, threads, operands
        self._sizes = operands.sizes
        self._told: dict[tuple[str, ...], _Sizes] = {}
        self._made: dict[int, Choice] = {}

    def choices(self) -> dict[int, Choice]:
        """Of all steps that a kernel may run, by `Step.alike`."""
        made, last = self._made, self._last
        for alike, steps in self._plan.alike.items():
            if alike not in made:
                step = steps[0]
                sizes, choice = last.get(alike, _NOTHING)
                if choice is None or sizes != self._of(step):
                    choice = self._choose(step)
                made[alike] = choice
        return made

    def choice(self, step: Step) -> Choice:
        """Of a step that has a kernel."""
        found = self._made.get(step.alike)
        if found is None:
            found = self._made[step.alike] = self._known(step) or self._choose(step)
        return found

    def _known(self, step: Step) -> Choice | None:
        """The last choice for a step like this one, if the sizes it knows were the same."""
        sizes, choice = self._last.get(step.alike, _NOTHING)
        return choice if sizes == self._of(step) else None

    def _of(self, step: Step) -> _Sizes:
        symbols = step.symbols
        found = self._told.get(symbols)
        if found is None:
            found = self._told[symbols] = tuple([self._sizes.get(symbol) for symbol in symbols])
        return found

    def _choose(self, step: Step) -> Choice:
        notes = self.notes.setdefault(step.alike, {})
        found = choose(step, self._plan, self._threads, self._operands, notes)
        if found is NONE:
            return found
        if found.refused:
            self._note(step, found)
        self._last[step.alike] = self._of(step), found
        return found

    def _note(self, step: Step, found: Choice) -> None:
        """Tells all steps like this one who refused them; most often that is known."""
        before = self._last.get(step.alike, _NOTHING)[1]
        if before is None or before.refused != found.refused:
            for like in self._plan.alike[step.alike]:
                for kernel, reason in found.refused:
                    like.refuse(kernel, reason)


def choose(
    step: Step, plan: Plan, threads: int, operands: Operands, notes: dict[Any, Any]
) -> Choice:
    """Asks the kernels of a step."""
    op, array, attr = step.op, operands.array, operands.attr
    inputs = [None if v is None else array(v) for v in op.inputs]
    outputs = [array(v) for v in op.outputs]
    for a in (*inputs, *outputs):
        if a is not None and not a.size:
            return NONE  # fast kernels never see empty arrays
    fixed = [v in plan.fixed for v in op.inputs]
    attrs = {k: attr(v) for k, v in op.attrs.items()}
    return _first(step, BoundOp(op, attrs, inputs, outputs, threads, fixed, notes))


def _first(step: Step, bound: BoundOp) -> Choice:
    refused: list[tuple[Kernel, str]] = []
    try:
        for kernel in (step.kernel, *step.others):
            assert kernel is not None
            try:
                return Choice(kernel, kernel.bind(bound), tuple(refused))
            except Declined as reason:
                refused.append((kernel, f"at binding: {reason}"))
    except NoriaError as error:
        raise error.at(step.op.where()) from None
    except MemoryError as error:  # tables of a kernel, as large as the sizes fed ask for
        where = step.op.where()
        raise EngineError("no memory for a kernel", where=where, got=str(error)) from None
    return Choice(None, None, tuple(refused))
