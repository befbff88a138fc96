"""To which part of a model a step of a plan belongs: its phase and its layer, read off the Program.

A Program is flat: what made an operator is not written on it. But the data flow tells: what the
fetched outputs need is the forward part, what makes the new values of state is the update, the rest
of a training step lies between. A layer is known by its parameters; an operator without any belongs
where the last of its operands was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noria.ir.program import Operator, Program, Value, needed
from noria.runtime.buffers import Item

FORWARD, BACKWARD, UPDATE, REORDER, PACK, ENGINE = (
    "forward",
    "backward",
    "update",
    "reorder",
    "pack",
    "engine",
)
PHASES = (FORWARD, BACKWARD, UPDATE, REORDER, PACK, ENGINE)


def phases(program: Program, operators: Iterable[Operator]) -> dict[Operator, str]:
    """The phase of each operator of a plan (whose inputs may be reordered copies)."""
    outputs = list(program.outputs.values())
    wanted = {v for op in needed(program.block, outputs) for v in op.outputs}
    updated, derived = set(program.updates.values()), set[Value]()
    trains = any(program.state[n].trainable for n in program.updates)
    found = {}
    for op in operators:
        if _derived(op) or not derived.isdisjoint(op.operands):
            derived.update(op.outputs)
        late = bool(op.outputs) and updated.issuperset(op.outputs)
        if outputs:
            forward = any(v in wanted for v in op.outputs)
        else:  # nothing is fetched: what does not come from differentiation
            forward = derived.isdisjoint(op.outputs) and not late
        found[op] = FORWARD if forward or not trains else UPDATE if late else BACKWARD
    return found


def _derived(op: Operator) -> bool:
    """Was it, or part of it, made by differentiation?"""
    if op.made_by == "grad":
        return True
    return any(_derived(inner) for block in op.blocks.values() for inner in block.operators)


def phase_of(item: Item, of: dict[Operator, str]) -> str:
    """The phase of an item: copies are phases of their own."""
    if item.pack is not None:
        return PACK
    return REORDER if item.reorders else of[item.step.op]


def layers(program: Program, operators: Iterable[Operator]) -> dict[Operator, str]:
    """The layer of each operator, named as its parameters are: `layer1.0.conv2`; '' for updates of
    several layers in one sweep."""
    steps = list(operators)
    owner = {s.value: _layer(n, program) for n, s in program.state.items()}
    ends = _ends(program, steps)
    made: dict[Value, tuple[int, str]] = {}
    found: dict[Operator, str] = {}
    for i, op in enumerate(steps):
        parameters = [v for v in op.operands if v in owner and program.state[v.name].trainable]
        own = [owner[v] for v in (*parameters, *op.operands) if v in owner]
        goes = [ends[v] for v in op.outputs if v in ends]
        _, came = max((made[v] for v in op.operands if v in made), default=(0, ""))
        several = op.type == "sweep" and len({owner[v] for v in parameters}) > 1
        found[op] = "" if several else next(iter([*own, *goes]), came)
        made.update(dict.fromkeys(op.outputs, (i, found[op])))
    return found


def _ends(program: Program, steps: list[Operator]) -> dict[Value, str]:
    """Value -> layer, for new state and for gradients that only the update of one layer reads."""
    found = {v: _layer(n, program) for n, v in program.updates.items()}
    made_anew = set(found)
    readers: dict[Value, list[Sequence[Value]]] = {}
    for op in steps:
        for taken, made in _parts(op):
            for v in taken:
                readers.setdefault(v, []).append(made)
    for v, all_made in readers.items():
        names = {found[out] for made in all_made for out in made if out in made_anew}
        if len(all_made) == 1 and len(names) == 1:
            found[v] = names.pop()
    return found


def _parts(op: Operator) -> list[tuple[Sequence[Value], Sequence[Value]]]:
    """What is taken and what is made; of a sweep, by each of its operators."""
    if op.type != "sweep":
        return [(op.operands, op.outputs)]
    body = op.blocks["body"]
    outside = dict(zip(body.inputs, op.operands, strict=True))
    outside.update(zip(body.outputs, op.outputs, strict=True))
    return [
        ([outside[v] for v in inner.operands], [outside[v] for v in inner.outputs])
        for inner in body.operators
    ]


def _layer(state: str, program: Program) -> str:
    """`conv1.weight` -> `conv1`; what an optimiser keeps is named behind the parameter."""
    head = state.rpartition(".")[0]
    return _layer(head, program) if head in program.state else head or state
