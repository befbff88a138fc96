"""Casts that nobody needs, because who reads their halves rounds float32 while packing it.

A weight of mixed precision is float32 state. Its bfloat16 form is most often read only to be
packed, once for each direction. Packing then reads the state itself, and the cast, which would
write halves and keep them until the last reader is done, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.ir.program import Program, Value
from noria.runtime.buffers import Item


def leave_out_casts(items: Sequence[Item], program: Program) -> list[Item]:
    """The items, in order, without casts of state that packing can do; who packs reads the state.

    All readers must know how, and run before the state has its new value: that is computed in the
    memory of the old one, and would have to be copied otherwise.
    """
    sources = _casts(items, program)
    if not sources:
        return list(items)
    renewed = _renewed(items, program)
    for t, item in enumerate(items):
        for i, v in enumerate(item.inputs):
            if v in sources and not (packs_full(item, i) and t < renewed[sources[v]]):
                del sources[v]
    left = []
    for item in items:
        if item.outputs and item.outputs[0] in sources:
            continue
        if not sources.keys().isdisjoint(v for v in item.inputs if v is not None):
            item.inputs = [v if v is None else sources.get(v, v) for v in item.inputs]
        left.append(item)
    return left


def packs_full(item: Item, number: int) -> bool:
    """Does an item read that input in packed copies only, and can they be made of float32?"""
    packs = item.prepared.packs if item.prepared is not None else []
    mine = [p for p in packs if p.input == number]
    return bool(mine) and all(p.replaces and p.full is not None for p in mine)


def _casts(items: Sequence[Item], program: Program) -> dict[Value, Value]:
    """Halves -> the float32 state they are made of in each step. Not those that are fetched."""
    state = {s.value for s in program.state.values()}
    roots = set(program.roots())
    return {
        item.outputs[0]: source
        for item in items
        if item.step.op.type == "cast" and not item.step.once
        for source in item.step.op.operands
        if source in state and source.dtype == "float32"
        if item.outputs[0].dtype == "bfloat16" and item.outputs[0] not in roots
    }


def _renewed(items: Sequence[Item], program: Program) -> dict[Value, int]:
    """State -> the item that computes its new value; none does for what stays as it is."""
    made = {v: t for t, item in enumerate(items) for v in item.outputs}
    return {
        s.value: made.get(program.updates[n], len(items)) if n in program.updates else len(items)
        for n, s in program.state.items()
    }
