"""Steps with real sizes: a Plan and the kernels that took the sizes -> Items, packing included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.ir.program import Value
from noria.runtime.buffers import Item
from noria.runtime.casts import leave_out_casts
from noria.runtime.memory import Buffer
from noria.runtime.plan import Plan
from noria.runtime.prepare import Choice, Preparation


def make_items(plan: Plan, preparation: Preparation) -> tuple[list[Item], list[Item]]:
    """(items that run once, items of each step): packing what never changes is of the first."""
    items = []
    for step in (*plan.prologue, *plan.body):
        item = Item(step, step.op.inputs, step.op.outputs)
        if step.kernel is not None:
            choice = preparation.choice(step)
            item.prepared, item.kernel = choice.prepared, choice.kernel
        items.append(item)
    once: list[Item] = []
    each: list[Item] = []
    packed: dict[tuple[Value, Any], Buffer] = {}
    for item in leave_out_casts(items, plan.program):
        for part in (*_packing(item, packed), item):
            fixed = item.step.once or (part.pack is not None and part.pack[1] in plan.fixed)
            (once if fixed else each).append(part)
    return once, each


def _packing(item: Item, packed: dict[tuple[Value, Any], Buffer]) -> list[Item]:
    """Items that make the packed copies this one asks for and nobody made before."""
    if item.prepared is None:
        return []
    new = []
    for pack in item.prepared.packs:
        source = item.inputs[pack.input]
        assert source is not None
        key = (source, pack.key)
        if key not in packed:
            packed[key] = Buffer(f"{source.name}.packed", pack.nbytes, -1, -1)
            new.append(Item(item.step, (source,), (), item.prepared, pack=(pack, source)))
            new[-1].packs = [packed[key]]
        item.packs.append(packed[key])
    return new


def again(item: Item, choices: Mapping[int, Choice]) -> Item:
    """The item for other sizes, in the same memory. choices: by `Step.alike`"""
    choice = choices.get(item.step.alike)
    made = Item(item.step, item.inputs, item.outputs, scratch=item.scratch, packs=item.packs)
    if choice is None:
        return made
    made.prepared = choice.prepared
    if item.pack is None:
        made.kernel = choice.kernel
        return made
    assert item.prepared is not None and choice.prepared is not None
    old, source = item.pack
    number = next(i for i, pack in enumerate(item.prepared.packs) if pack is old)
    made.pack = choice.prepared.packs[number], source
    return made
