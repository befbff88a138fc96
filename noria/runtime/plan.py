"""Program -> Plan: once per Program and engine. Order, kernels, memory layouts, what runs once.

No size is needed here: a Plan serves every batch size. `runtime/bind.py` gives it real sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from noria.core.dims import symbols_of
from noria.core.flags import flags
from noria.core.shapes import Check
from noria.ir.opdef import collect_checks, lookup
from noria.ir.program import Block, Operator, Program, Value, needed
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Choice,
    Kernel,
    choose,
    enabled_engines,
)

REORDER = "reorder"  # a step the planner adds: the same value in another memory layout


@dataclass(slots=True, eq=False)
class Step:
    """One operator with its kernel.

    kernel: None is the reference; view: the output shares the input's memory, nothing runs;
    dynamic: sizes are known only when it runs; once: depends on nothing that changes.
    """

    op: Operator
    kernel: Kernel | None
    refused: list[tuple[str, str]] = field(default_factory=list)
    view: bool = False
    dynamic: bool = False
    once: bool = False

    @property
    def engine(self) -> str:
        if self.view:
            return "view"
        return self.kernel.name if self.kernel else "reference"


@dataclass(slots=True, eq=False)
class Plan:
    """What to run, in which order, by which kernels; all but the sizes."""

    program: Program
    steps: list[Step]
    layouts: dict[Value, str]
    checks: list[Check]
    fixed: set[Value]  # values that no step changes

    @property
    def prologue(self) -> list[Step]:
        return [s for s in self.steps if s.once]

    @property
    def body(self) -> list[Step]:
        return [s for s in self.steps if not s.once]


def make_plan(program: Program, engines: frozenset[str] | None = None) -> Plan:
    """Choose an order, a kernel for each operator, and layouts.

    engines: names of kernel engines to use, default those of the flag `kernels`.
    """
    engines = enabled_engines() if engines is None else engines
    order = schedule(program)
    dynamic = _dynamic(program, order)
    once = _once(program, order)
    planner = _Planner(program, once)
    for operator in order:
        planner.add(operator, engines, any(v in dynamic for v in _touched(operator)))
    return Plan(program, planner.steps, planner.layouts, _checks(order), planner.fixed)


def schedule(program: Program) -> list[Operator]:
    """A valid order with short lives: updates run as soon as what they need is there.

    Operators that nothing needs are left out; ordered effects keep their order.
    """
    order = needed(program.block, program.roots(), lambda op: lookup(op.type).effect == "ordered")
    position = {v: i for i, op in enumerate(order) for v in op.outputs}
    used = {v for op in order for v in op.operands} | set(program.outputs.values())
    final = [i for i, op in enumerate(order) if not any(v in used for v in op.outputs)]
    late: dict[int, list[int]] = {}
    for i in final:
        if lookup(order[i].type).effect == "ordered":
            continue
        ready = max((position.get(v, -1) for v in order[i].operands), default=-1)
        ready = max(ready, _last_reader(program, order, i))
        late.setdefault(ready, []).append(i)
    moved = {i for group in late.values() for i in group}
    out = [order[i] for i in late.get(-1, ())]
    for i, op in enumerate(order):
        if i not in moved:
            out.append(op)
        out.extend(order[j] for j in late.get(i, ()) if i not in moved or j > i)
    return out if len(out) == len(order) else order


def _last_reader(program: Program, order: Sequence[Operator], i: int) -> int:
    """The last other reader of the state that operator i updates: writing in place can wait."""
    updated = {v: program.state[n].value for n, v in program.updates.items()}
    states = {updated[v] for v in order[i].outputs if v in updated}
    if not states:
        return -1
    readers = [j for j, op in enumerate(order) if j != i and any(v in states for v in op.operands)]
    return max((j for j in readers if j < i), default=-1)


def _touched(op: Operator) -> Iterable[Value]:
    yield from op.operands
    yield from op.outputs


def _dynamic(program: Program, order: Sequence[Operator]) -> set[Value]:
    """Values whose sizes cannot be computed from the feeds' sizes."""
    known: set[str] = set()
    for v in program.block.inputs:
        known |= symbols_of(v.shape)
    return {v for op in order for v in _touched(op) if not symbols_of(v.shape) <= known}


def _once(program: Program, order: Sequence[Operator]) -> set[Operator]:
    """Pure operators that depend on constants and on state that no step changes."""
    fixed = {s.value for n, s in program.state.items() if n not in program.updates}
    out: set[Operator] = set()
    for op in order:
        sized = any(symbols_of(v.shape) for v in op.outputs)
        if lookup(op.type).effect == "pure" and not sized and all(v in fixed for v in op.operands):
            out.add(op)
            fixed.update(op.outputs)
    return out


def _checks(order: Sequence[Operator]) -> list[Check]:
    """Equalities of sizes that only real sizes can decide, found by inferring again."""
    found: list[Check] = []
    for op in order:
        mine: list[Check] = []
        with collect_checks(mine):
            lookup(op.type).infer(op.inputs, op.attrs, op.blocks)
        found.extend(Check(c.left, c.right, f"{c.where} ({op.where()})") for c in mine)
    return found


class _Planner:
    """Walks the operators once, keeping track of the layout of each value."""

    def __init__(self, program: Program, once: set[Operator]) -> None:
        self.once = once
        self.steps: list[Step] = []
        self.layouts: dict[Value, str] = {v: PLAIN for v in program.block.inputs}
        self.layouts.update({s.value: PLAIN for s in program.state.values()})
        self.fixed: set[Value] = {
            s.value for n, s in program.state.items() if n not in program.updates
        }
        self.copies: dict[tuple[Value, str], Value] = {}

    def add(self, op: Operator, engines: frozenset[str], dynamic: bool) -> None:
        definition = lookup(op.type)
        once = op in self.once
        if definition.views and not dynamic:
            self._append(Step(op, None, view=True, once=once), *_all_plain(op))
            return
        choice = (
            Choice(None, []) if dynamic or op.blocks and op.type != "fused" else choose(op, engines)
        )
        step = Step(op, choice.kernel, choice.refused, dynamic=dynamic, once=once)
        given = [None if v is None else self.layouts[v] for v in op.inputs]
        if choice.kernel is None:
            self._append(step, [None] * len(op.inputs), _reference_layout(op, given))
        else:
            self._append(step, *choice.kernel.layout(op, given))

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

    def _reordered(self, v: Value, layout: str) -> Value:
        key = (v, layout)
        if key not in self.copies:
            copy = Value(f"{v.name}.{layout}", v.shape, v.dtype)
            reorder = Operator(REORDER, (v,), (copy,), {"layout": layout})
            self.steps.append(Step(reorder, None, once=v in self.fixed))
            self.layouts[copy] = layout
            if v in self.fixed:
                self.fixed.add(copy)
            self.copies[key] = copy
        return self.copies[key]


def _all_plain(op: Operator) -> tuple[list[str | None], list[str]]:
    return [PLAIN if v is not None else None for v in op.inputs], [PLAIN] * len(op.outputs)


def _reference_layout(op: Operator, given: Sequence[str | None]) -> list[str]:
    """The reference takes any strides; it keeps channels-last where an equal-rank input has it."""
    ranks = {v.ndim for v, g in zip(op.inputs, given, strict=True) if v is not None and g == LAST}
    return [LAST if v.ndim in ranks else PLAIN for v in op.outputs]


def plan_block(block: Block, name: str) -> Program:
    """A nested block as a Program of its own."""
    outputs = {f"{name}.{i}": v for i, v in enumerate(block.outputs)}
    return Program(name, block, {}, outputs, {})


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
