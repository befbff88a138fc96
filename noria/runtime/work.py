"""What an item costs at real sizes: arithmetic operations, and bytes read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from noria.core.dims import symbols_of
from noria.ir.interpret import bind_attrs
from noria.ir.opdef import OpDef, lookup
from noria.ir.program import Block, Operator, Value
from noria.kernels.numba.scalar import COST
from noria.kernels.registry import Array
from noria.ops.fused import ELEMENTWISE, UPDATES
from noria.runtime.buffers import Item

Sized = Callable[[Value], Array]


class Work(NamedTuple):
    """operations: arithmetic ones, a multiply-add is two, an exp twenty; nbytes: touched."""

    operations: float
    nbytes: float


def work_of(item: Item, array: Sized, sizes: Mapping[str, int]) -> Work:
    """The work of an item. What only a run can tell counts as nothing.

    What the op itself says counts, however a kernel does it; else what the kernel says
    (`Prepared.work`); else operations are counted element by element.
    """
    if item.step.view:
        return Work(0.0, 0.0)
    if item.pack is not None:
        pack, source = item.pack
        return Work(0.0, array(source).nbytes + pack.nbytes)
    if item.reorders:
        return Work(0.0, 2.0 * array(item.outputs[0]).nbytes)
    found = _operator_work(item.step.op, item.inputs, item.outputs, array, sizes)
    declared = item.prepared.work if item.prepared is not None else 0.0
    own = lookup(item.step.op.type).work_fn is not None
    return Work(found.operations if own else declared or found.operations, found.nbytes)


def _operator_work(
    op: Operator,
    inputs: Sequence[Value | None],
    outputs: Sequence[Value],
    array: Sized,
    sizes: Mapping[str, int],
) -> Work:
    def known(v: Value | None) -> Array | None:
        return array(v) if v is not None and symbols_of(v.shape) <= sizes.keys() else None

    ins, outs = [known(v) for v in inputs], [known(v) for v in outputs]
    touched = dict(zip((*inputs, *outputs), (*ins, *outs), strict=True))  # each value once
    nbytes = float(sum(a.nbytes for a in touched.values() if a))
    definition = lookup(op.type)
    if definition.work_fn is not None and None not in outs:
        got = definition.work_fn(*_named(definition, op, ins, outs, sizes))
        return Work(*map(float, got)) if isinstance(got, tuple) else Work(float(got), nbytes)
    if op.blocks:
        return Work(_block_operations(op, array, sizes), nbytes)
    return Work(_by_element(op.type, ins, outs), nbytes)


def _named(
    definition: OpDef,
    op: Operator,
    ins: Sequence[Array | None],
    outs: Sequence[Array | None],
    sizes: Mapping[str, int],
) -> list[Any]:
    """Arguments of an op's own `work` function."""
    fixed = len(definition.inputs) - definition.variadic
    padded = [*ins, *[None] * (fixed - len(ins))]
    space: dict[str, Any] = dict(zip(definition.names, padded, strict=False))
    if definition.variadic:
        space[definition.inputs[-1].name] = ins[fixed:]
    space.update(zip(definition.outputs, outs, strict=False))
    space.update(bind_attrs(op.attrs, sizes))
    return [space.get(name) for name in definition.work_params]


def _by_element(kind: str, ins: Sequence[Array | None], outs: Sequence[Array | None]) -> float:
    """Ops that work element by element; all others only move numbers about."""
    if kind in ELEMENTWISE or kind in UPDATES:
        return float(max((a.size for a in outs if a), default=0) * COST.get(kind, 1))
    if kind.startswith("reduce_") or kind in ("sum_to", "cumsum"):
        return float(max((a.size for a in ins if a), default=0))
    return 0.0


def _block_operations(op: Operator, array: Sized, sizes: Mapping[str, int]) -> float:
    """Nested operators; of a `scan` once for each of its steps, of other loops once."""
    length = bind_attrs({"length": op.attrs.get("length", 1)}, sizes)["length"]
    return length * sum(_inside(block, array, sizes) for block in op.blocks.values())


def _inside(block: Block, array: Sized, sizes: Mapping[str, int]) -> float:
    return sum(
        _operator_work(inner, inner.inputs, inner.outputs, array, sizes).operations
        for inner in block.operators
    )
