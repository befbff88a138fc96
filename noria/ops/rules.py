"""Gradient rules made from something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.errors import ProgramError
from noria.ir.emit import trace_block
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Value


def by_decomposition(
    op: Operator, gs: Sequence[Value | None], vjp: Callable[..., list[Value | None]]
) -> list[Value | None]:
    """The gradients of an operator as those of its decomposition, which is emitted again.

    For ops whose gradient is seldom asked for, above all gradient ops: a gradient of a gradient
    need not be fast, but must be right. Arguments are those a rule gets by the same names.
    """
    definition = lookup(op.type)
    if definition.decompose_fn is None:
        raise ProgramError(f"op '{op.type}' has no decomposition")
    decompose = definition.decompose_fn

    def rebuild(*values: Value) -> Any:
        given = iter(values)
        inputs = [None if v is None else next(given) for v in op.inputs]
        return decompose(*inputs, **op.attrs)

    present = op.operands
    block, captures, result = trace_block(rebuild, present, [v.name for v in present])
    block.outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    grads = iter(vjp(block, [*present, *captures], gs))
    return [None if v is None else next(grads) for v in op.inputs]
