"""Program -> Plan: once per Program and engine. Order, kernels, memory layouts, what runs once.

No size is needed here: a Plan serves every batch size. `runtime/bind.py` gives it real sizes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from noria.core.dims import symbols_of
from noria.core.flags import flags
from noria.core.pause import collector_paused
from noria.core.shapes import Check
from noria.ir.nested import has_effect
from noria.ir.opdef import collect_checks, lookup
from noria.ir.program import Operator, Program, Value, needed, symbols_told, symbols_used
from noria.kernels import library as _library  # noqa: F401 (registers the kernels)
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Choice,
    Kernel,
    Layouts,
    choose,
    enabled_engines,
)
from noria.passes.eliminate_common_ops import signature
from noria.passes.liveness import fixed_values, unchanged_state
from noria.passes.nested import SEALED
from noria.runtime.operands import Kinds
from noria.runtime.order import casts_of, low_peak, read_by

REORDER = "reorder"  # a step the planner adds: the same value in another memory layout


@dataclass(slots=True, eq=False)
class Step:
    """One operator with its kernel.

    kernel:  None is the reference; others: asked next should it decline the real sizes
    refused: (kernel, why it did not take the operator)
    view:    the output shares the input's memory, nothing runs
    dynamic: sizes are known only when it runs; checks: what must hold for them
    once:    depends on nothing that changes
    alike:   the same number for steps that any kernel prepares in the same way
    symbols: the sizes it has to do with
    """

    op: Operator
    kernel: Kernel | None
    refused: list[tuple[str, str]] = field(default_factory=list)
    view: bool = False
    dynamic: bool = False
    once: bool = False
    checks: list[Check] = field(default_factory=list)
    others: list[Kernel] = field(default_factory=list)
    alike: int = -1
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.symbols = tuple(sorted(symbols_used(self.op) | symbols_told(self.op)))

    def refuse(self, kernel: Kernel, reason: str) -> None:
        """Note that a kernel did not take the operator after all."""
        if (kernel.name, reason) not in self.refused:
            self.refused.append((kernel.name, reason))

    @property
    def engine(self) -> str:
        if self.view or self.op.type == REORDER:
            return "view" if self.view else "copy"
        return self.kernel.name if self.kernel else "reference"


@dataclass(slots=True, eq=False)
class Plan:
    """What to run, in which order, by which kernels; all but the sizes.

    checks: equalities of sizes to be verified when they are bound
    fixed:  values that no step changes; sized: those of them that depend on symbolic sizes
    prepared: what `runtime/prepare.py` need not do again for other sizes
    memory:   nor `runtime/script.py` and `runtime/memory.py`
    kinds:    of its values
    alike:    the steps that a kernel may run, by `Step.alike`
    prologue: the steps that run once; body: the others
    learns:   some of them tell sizes as they run
    """

    program: Program
    steps: list[Step]
    layouts: dict[Value, str]
    checks: list[Check]
    fixed: set[Value]
    sized: set[Value]
    engines: frozenset[str]
    prepared: dict[Any, Any] = field(default_factory=dict)
    memory: dict[Any, Any] = field(default_factory=dict)
    kinds: Kinds = field(init=False)
    alike: dict[int, list[Step]] = field(init=False)
    prologue: list[Step] = field(init=False)
    body: list[Step] = field(init=False)
    learns: bool = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = Kinds(self.layouts)
        self.alike = {}
        self.prologue = [s for s in self.steps if s.once]
        self.body = [s for s in self.steps if not s.once]
        self.learns = any(s.dynamic for s in self.body)
        for step in self.steps:
            if step.kernel is not None:
                self.alike.setdefault(step.alike, []).append(step)


@collector_paused()
def make_plan(
    program: Program,
    engines: frozenset[str] | None = None,
    layouts: Mapping[str, str] | None = None,
) -> Plan:
    """Choose an order, a kernel for each operator, and layouts.

    engines: names of kernel engines, or of single kernels, to use; default those of the flag
             `kernels`
    layouts: of the memory of inputs, by name; default row-major
    """
    engines = enabled_engines() if engines is None else engines
    order = with_updates_early(program, low_peak(program, schedule(program)))
    dynamic = _dynamic(program, order)
    checks: list[Check] = []
    planner = _Planner(program, _once(program, order, dynamic), engines)
    planner.layouts.update((program.inputs[n], how) for n, how in (layouts or {}).items())
    for operator in order:
        mine = planner.checks(operator)
        if operator in dynamic:
            planner.add_dynamic(operator, mine)
        else:
            planner.add(operator)
            checks += mine
    checks = list({(type(c), c.left, c.right): c for c in reversed(checks)}.values())[::-1]
    found = planner.layouts, checks, planner.fixed, planner.sized
    return Plan(program, planner.steps, *found, engines)


def _dynamic(program: Program, order: Sequence[Operator]) -> set[Operator]:
    """Operators concerned with a size that another one, or they themselves, tell as they run."""
    fed = {s for v in program.block.inputs for s in symbols_of(v.shape)}
    told = {s for op in order for s in symbols_told(op)} - fed
    return {op for op in order if told and not told.isdisjoint(symbols_used(op) | symbols_told(op))}


def schedule(program: Program) -> list[Operator]:
    """A valid order with short lives: updates run as soon as what they need is there.

    Operators that nothing needs are left out; effects keep their order.
    """
    return with_updates_early(program, needed(program.block, program.roots(), has_effect))


def with_updates_early(program: Program, order: list[Operator]) -> list[Operator]:
    """The order with what nobody reads as soon as what it needs is there: a gradient is dropped
    while a cache still has it."""
    used = {v for op in order for v in op.operands} | set(program.outputs.values())
    wait = _Waiting(program, order)
    late: dict[int, list[int]] = {}
    for i, op in enumerate(order):
        if not has_effect(op) and not any(v in used for v in op.outputs):
            late.setdefault(wait.until(i), []).append(i)
    moved = {i for group in late.values() for i in group}
    out = [order[i] for i in late.get(-1, ())]
    for i, op in enumerate(order):
        if i not in moved:
            out.append(op)
        out.extend(order[j] for j in late.get(i, ()))
    return out


class _Waiting:
    """What an operator must come after."""

    def __init__(self, program: Program, order: Sequence[Operator]) -> None:
        self.order = order
        self.position: dict[Value | str, int] = {}
        self.readers: dict[Value, list[int]] = {}
        self.replaced = {v: program.state[n].value for n, v in program.updates.items()}
        casts = casts_of(order)
        for i, op in enumerate(order):
            self.position.update(dict.fromkeys(op.outputs, i))
            for symbol in symbols_told(op):
                self.position.setdefault(symbol, i)
            for v in read_by(op, casts):
                self.readers.setdefault(v, []).append(i)

    def until(self, i: int) -> int:
        """The last operator that i needs, or that reads the state whose new value i makes: then
        the new value can take the memory of the old one. -1 for none."""
        op = self.order[i]
        wanted: list[Value | str] = [*op.operands, *symbols_used(op)]
        last = max((self.position.get(known, -1) for known in wanted), default=-1)
        for state in (self.replaced[v] for v in op.outputs if v in self.replaced):
            readers = self.readers.get(state, [])
            earlier = bisect_left(readers, i)
            last = max(last, readers[earlier - 1] if earlier else -1)
        return last


def _once(program: Program, order: Sequence[Operator], dynamic: set[Operator]) -> set[Operator]:
    """Operators that run once per set of sizes, into memory of their own."""
    static = [op for op in order if op not in dynamic]
    fixed = fixed_values(static, unchanged_state(program))
    return {op for op in static if op.outputs and all(v in fixed for v in op.outputs)}


def _checks_of(op: Operator) -> list[Check]:
    """What must hold between sizes and only real ones can decide, found by inferring again."""
    found: list[Check] = []
    with collect_checks(found):
        lookup(op.type).infer(op.inputs, op.attrs, op.blocks)
    return [replace(c, where=f"{c.where} ({op.where()})") for c in found]


class _Planner:
    """Walks the operators once, keeping track of the layout of each value."""

    def __init__(self, program: Program, once: set[Operator], engines: frozenset[str]) -> None:
        self.once, self.engines = once, engines
        self.steps: list[Step] = []
        self.layouts: dict[Value, str] = dict.fromkeys(program.block.inputs, PLAIN)
        self.layouts.update({s.value: PLAIN for s in program.state.values()})
        self.fixed: set[Value] = {
            s.value for n, s in program.state.items() if n not in program.updates
        }
        self.sized: set[Value] = set()
        self.copies: dict[tuple[Value, str], Value] = {}
        self.alike: dict[Any, int] = {}
        self._signatures: dict[Operator, Any] = {}
        self._unchecked: set[Any] = set()  # signatures

    def checks(self, op: Operator) -> list[Check]:
        """Equalities of sizes that only real sizes can decide. Operators that are alike need none
        if the first of them does not."""
        if not symbols_used(op) and not symbols_told(op):
            return []
        key = self._signature(op)
        if key in self._unchecked:
            return []
        found = _checks_of(op)
        if not found:
            self._unchecked.add(key)
        return found

    def _signature(self, op: Operator) -> Any:
        found = self._signatures.get(op)
        if found is None:
            found = self._signatures[op] = signature(op)
        return found

    def add(self, op: Operator) -> None:
        once = op in self.once
        if lookup(op.type).views:
            step = Step(op, None, view=True, once=once)
            self._append(step, *(self._as_given(op) or _all_plain(op)))
            return
        controls = bool(op.blocks) and op.type not in SEALED
        choice = Choice(None, []) if controls else choose(op, self.engines)
        step = Step(op, choice.kernel, choice.refused, once=once)
        given = [None if v is None else self.layouts[v] for v in op.inputs]
        if choice.kernel is None:
            self._append(step, [None] * len(op.inputs), _reference_layout(op, given))
        else:
            layout = choice.kernel.layout(op, given)
            step.others = [k for k in choice.others if k.layout(op, given) == layout]
            self._append(step, *layout)
            self._compare(step)

    def _as_given(self, op: Operator) -> Layouts | None:
        """The layouts of a view that is another name of its first input, in whatever layout."""
        same = op.inputs[0] is not None and op.inputs[0].shape == op.outputs[0].shape
        if not same or len(op.outputs) > 1:
            return None
        return [None] * len(op.inputs), [self.layouts[op.operands[0]]]

    def add_dynamic(self, op: Operator, checks: list[Check]) -> None:
        """An operator whose sizes are known only when it runs; the reference takes any memory."""
        step = Step(op, None, dynamic=True, checks=checks)
        self._append(step, [None] * len(op.inputs), [PLAIN] * len(op.outputs))

    def _append(self, step: Step, wanted: Sequence[str | None], given: Sequence[str]) -> None:
        op = step.op
        moved = {}
        for v, layout in zip(op.inputs, wanted, strict=True):
            if v is not None and layout is not None and self.layouts[v] != layout:
                moved[v] = self._reordered(v, layout)
        step.op = op.with_inputs(moved)
        self.steps.append(step)
        self.layouts.update(zip(op.outputs, given, strict=True))
        if step.once:
            self.fixed.update(op.outputs)
            if symbols_used(op) or not self.sized.isdisjoint(op.operands):
                self.sized.update(op.outputs)

    def _compare(self, step: Step) -> None:
        """Give the step the number of those before it that are like it."""
        op = step.op
        layouts = tuple([None if v is None else self.layouts[v] for v in (*op.inputs, *op.outputs)])
        fixed = tuple([v in self.fixed for v in op.inputs])
        kernels = tuple(k.name for k in (step.kernel, *step.others) if k is not None)
        key = self._signature(op), layouts, fixed, kernels
        step.alike = self.alike.setdefault(key, len(self.alike))

    def _reordered(self, v: Value, layout: str) -> Value:
        key = (v, layout)
        if key not in self.copies:
            copy = Value(f"{v.name}.{layout}", v.shape, v.dtype)
            reorder = Operator(REORDER, (v,), (copy,), {"layout": layout})
            self.steps.append(Step(reorder, None, once=v in self.fixed))
            self.layouts[copy] = layout
            for known in (self.fixed, self.sized):
                if v in known:
                    known.add(copy)
            self.copies[key] = copy
        return self.copies[key]


def _all_plain(op: Operator) -> tuple[list[str | None], list[str]]:
    return [PLAIN if v is not None else None for v in op.inputs], [PLAIN] * len(op.outputs)


def _reference_layout(op: Operator, given: Sequence[str | None]) -> list[str]:
    """The reference takes any strides; it keeps channels-last where an equal-rank input has it."""
    ranks = {v.ndim for v, g in zip(op.inputs, given, strict=True) if v is not None and g == LAST}
    return [LAST if v.ndim in ranks else PLAIN for v in op.outputs]


def describe(plan: Plan) -> str:
    """One line per step: engine and operator; the golden text of a Plan."""
    lines = []
    for s in plan.steps:
        marks = "".join(m for m, on in (("*", s.once), ("?", s.dynamic)) if on)
        outs = ", ".join(
            f"{v.name}: {v}{'' if plan.layouts[v] == PLAIN else ' ' + plan.layouts[v]}"
            for v in s.op.outputs
        )
        ins = ", ".join("_" if v is None else v.name for v in s.op.inputs)
        lines.append(f"{s.engine + marks:<24} {outs} = {s.op.type}({ins})")
        if flags.debug >= 6:
            lines += [f"{'':<24}   not {k}: {why}" for k, why in s.refused]
    return "\n".join(lines)
