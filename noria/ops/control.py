"""Choosing between computations by data: `cond`, `case`, `switch_case`.

Only the chosen branch runs. Branches are functions of values; they may use any value around them.
On arrays these functions are Python's `if`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ProgramError
from noria.core.structure import Form, flatten
from noria.ir.emit import building
from noria.ir.nested import (
    Nested,
    close,
    need_flag,
    need_inputs,
    require_spec,
    resolved,
    scalar_dtype,
    value_of,
)
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec, Value
from noria.ops.common import need_integer, need_rank

BRANCHES = ("then", "otherwise")


@op(name="cond", blocks=BRANCHES)
def cond_op(pred, *operands, then, otherwise):
    """The outputs of block `then` if pred (a bool scalar) is true, else those of `otherwise`.

    Both blocks take the operands and give outputs of the same dtypes and shapes.
    """
    need_flag(pred, "pred")
    for name, block in zip(BRANCHES, (then, otherwise), strict=True):
        need_inputs(block, operands, f"block '{name}'")
    if len(then.outputs) != len(otherwise.outputs):
        raise ProgramError(
            "both branches must give as many outputs",
            got=f"{len(then.outputs)} and {len(otherwise.outputs)}",
        )
    for i, (a, b) in enumerate(zip(then.outputs, otherwise.outputs, strict=True)):
        require_spec(b, a, f"output {i} of block 'otherwise'")
    return [Spec(v.shape, v.dtype) for v in then.outputs]


@cond_op.compute
def _(xp, pred, *operands, then, otherwise):
    if xp is np:
        return (then if bool(pred) else otherwise)(*operands)
    from jax.lax import cond as jax_cond

    return jax_cond(pred, lambda *a: then(*a), lambda *a: otherwise(*a), *operands)


@cond_op.grad
def _(pred, operands, then, otherwise, gs, vjp, wanted):
    present = [g for g in gs if g is not None]
    specs, names = [*operands, *present], [v.name for v in (*operands, *present)]
    parts, found = [], []
    for block in (then, otherwise):
        part = Nested(specs, names)
        with part:
            inner = iter(part.inputs[len(operands) :])
            seeds = [None if g is None else next(inner) for g in gs]
            found.append(vjp(block, part.inputs[: len(operands)], seeds, wanted[1:]))
        parts.append(part)
    kept = [i for i in range(len(operands)) if any(grads[i] is not None for grads in found)]
    if not kept:
        return [None] * len(wanted)
    for part, grads in zip(parts, found, strict=True):
        with part:
            part.block.outputs = [_or_zeros(grads[i], operands[i]) for i in kept]
    outs = dict(zip(kept, emit_cond(pred, parts, specs), strict=True))
    return [None, *(outs.get(i) for i in range(len(operands)))]


def _or_zeros(grad: Value | None, like: Value) -> Value:
    return o.fill(shape=like.shape, value=0.0, dtype=like.dtype) if grad is None else grad


def emit_cond(pred: Value, parts: Sequence[Nested], operands: Sequence[Value]) -> list[Value]:
    """Emit the op for two branches that are complete."""
    blocks, values = close(parts, operands)
    result = building().emit(cond_op, [pred, *values], {}, dict(zip(BRANCHES, blocks, strict=True)))
    return [result] if isinstance(result, Value) else list(result)


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any
) -> Any:
    """`true_fn(*operands)` if pred else `false_fn(*operands)`.

    pred:     bool scalar; if it is no Value of a Program, the choice is made at once
    operands: values, arrays, scalars, or tuples, lists and dicts of them
    Both functions return the same structure (a value, None, or tuples, lists and dicts of values)
    with the same dtypes and shapes; they may also use values around them. Gradients flow through
    the branch that ran. Raises ProgramError if the structures differ, DTypeError or ShapeError if
    the values do.

        y = ops.cond(ops.reduce_sum(x) > 0, lambda: x * 2.0, lambda: -x)
    """
    pred = resolved(pred)
    if not isinstance(pred, Value):
        return (true_fn if _truth(pred) else false_fn)(*operands)
    need_flag(pred, "pred")
    leaves, form = flatten(operands)
    values = [value_of(leaf) for leaf in leaves]
    parts, returned = [], []
    for fn in (true_fn, false_fn):
        part = Nested(values, [v.name for v in values])
        with part:
            returned.append(flatten(fn(*form.build(part.inputs))))
        parts.append(part)
    (left, result), (right, other) = returned
    _same_structure(result, other)
    for part, mine, others in ((parts[0], left, right), (parts[1], right, left)):
        with part:
            pairs = zip(mine, others, strict=True)
            part.block.outputs = [value_of(a, scalar_dtype(a, b)) for a, b in pairs]
    _same_specs(parts, result.paths("result"))
    return result.build(emit_cond(pred, parts, values))


def _truth(pred: Any) -> bool:
    array = np.asarray(pred)
    need_flag(Spec(array.shape, array.dtype), "pred")
    return bool(array)


def _same_structure(a: Form, b: Form) -> None:
    if a != b:
        raise ProgramError(
            "the two branches return different structures",
            expected=f"{a}, as the first one returns",
            got=str(b),
            hint="return the same tuples, lists and dicts from both; None where there is nothing",
        )


def _same_specs(parts: Sequence[Nested], names: Sequence[str]) -> None:
    then, otherwise = (p.block.outputs for p in parts)
    for a, b, name in zip(then, otherwise, names, strict=True):
        require_spec(b, a, f"{name} of the second branch")
    for part in parts:
        part.check_sizes(names)


def case(
    pairs: Sequence[tuple[Any, Callable[[], Any]]], default: Callable[[], Any] | None = None
) -> Any:
    """The result of the first function whose condition is true, else of `default`.

    pairs: (bool scalar, function without arguments); without a default, the last function is it.
    All functions return the same structure, as in `cond`. Raises ArgumentError if there is none.
    """
    chain = list(pairs)
    if not chain:
        raise ArgumentError("case needs at least one (condition, function)")
    if default is None:
        default = chain.pop()[1]
    for pred, fn in reversed(chain):
        default = _choice(pred, fn, default)
    return default()


def _choice(pred: Any, fn: Callable[[], Any], rest: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: cond(pred, fn, rest)


def switch_case(
    index: Any,
    fns: Sequence[Callable[[], Any]] | dict[int, Callable[[], Any]],
    default: Callable[[], Any] | None = None,
) -> Any:
    """The result of `fns[index]`; of `default` where there is no such function.

    index: integer scalar
    fns:   functions without arguments, for 0, 1, ..., or a dict by integer; without a default,
           the function of the largest integer is it
    All functions return the same structure, as in `cond`. They are the leaves of a binary tree:
    among n functions, about log2(n) conditions are looked at. Raises ArgumentError if there is
    no function, DTypeError or ShapeError if the index is not an integer scalar.
    """
    table = dict(fns) if isinstance(fns, dict) else dict(enumerate(fns))
    if not table:
        raise ArgumentError("switch_case needs at least one function")
    keys = sorted(table)
    leaves = [table[k] for k in keys]
    if default is not None:
        leaves.append(default)
    last = len(leaves) - 1
    if not isinstance(index, Value):
        index = np.asarray(index)
    need_integer(Spec(index.shape, index.dtype))
    need_rank(index, 0, what="the index of switch_case")
    hit = o.equal(index, np.array(keys, index.dtype))
    beyond = np.arange(len(keys), dtype="int64") - last
    return _search(o.add(o.reduce_sum(o.where(hit, beyond, 0)), last), leaves)


def _search(position: Any, leaves: Sequence[Callable[[], Any]], first: int = 0) -> Any:
    """The result of the leaf at `position`, counted from `first`."""
    if len(leaves) == 1:
        return leaves[0]()
    middle = len(leaves) // 2
    return cond(
        o.less(position, first + middle),
        lambda: _search(position, leaves[:middle], first),
        lambda: _search(position, leaves[middle:], first + middle),
    )
