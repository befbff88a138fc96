"""Descending into the blocks of control flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Value, walk

SEALED = frozenset(
    ("fused", "fused_convs", "fused_product", "fused_recurrent", "sweep")
)  # ops whose blocks stay as they are: a kernel reads them


def map_blocks(operator: Operator, change: Callable[[Block], Block]) -> Operator:
    """The operator with `change` applied to its blocks; itself if nothing changed.

    `change` returns the block it was given, or a new one. Blocks of SEALED ops are left alone.
    """
    if not operator.blocks or operator.type in SEALED:
        return operator
    blocks = {name: change(block) for name, block in operator.blocks.items()}
    if all(blocks[name] is block for name, block in operator.blocks.items()):
        return operator
    return replace(operator, blocks=blocks)


def effects(operator: Operator) -> Iterator[str]:
    """The effect of the operator, and those of the operators inside it."""
    yield lookup(operator.type).effect
    for block in operator.blocks.values():
        for inner in walk(block):
            yield lookup(inner.type).effect


def enclosed(
    group: Sequence[Operator], type: str, name: str, outputs: Sequence[Value] | None = None
) -> Operator:
    """An operator whose block `body` has these operators; it defines the same values.

    type:    of the operator; name: of the pass that makes it
    outputs: the values it gives, default all that the operators make
    """
    inner: dict[Value, Value] = {}
    body = Block()
    taken: list[Value] = []
    for op in group:
        for v in op.operands:
            if v not in inner:
                inner[v] = Value(v.name, v.shape, v.dtype)
                taken.append(v)
                body.inputs.append(inner[v])
        inner.update((v, Value(v.name, v.shape, v.dtype)) for v in op.outputs)
        inputs = tuple(None if v is None else inner[v] for v in op.inputs)
        made = tuple(inner[v] for v in op.outputs)
        body.operators.append(replace(op, inputs=inputs, outputs=made))
    given = tuple(v for op in group for v in op.outputs) if outputs is None else tuple(outputs)
    body.outputs = [inner[v] for v in given]
    last = group[-1]
    return Operator(type, tuple(taken), given, {}, {"body": body}, last.source, name)
