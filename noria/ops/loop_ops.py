"""The ops of loops, `while_loop` and `scan`: what they mean. `noria/ops/loops.py` emits them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dims import Size, symbol
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, EngineError, ProgramError, ShapeError
from noria.ir.nested import need_flag, need_inputs, require_spec
from noria.ir.opdef import op
from noria.ir.program import Block, Spec
from noria.ops.loop_grad import loop_gradient


@op(name="while_loop", blocks=("cond", "body"))
def while_op(*operands, cond, body, carried, record=(), steps=""):
    """Run `body` on the carried values as long as `cond` gives true; the last carried values.

    operands: `carried` values that change, then values that stay
    cond:     all operands -> bool scalar; body: all operands -> new carried values
    record:   which carried values to give the history of, stacked on a new first axis: what they
              were before each step. Its size is the symbol `steps`, which only the data tell.
    """
    _need_counts(operands, body, carried, 0, record)
    need_inputs(cond, operands, "block 'cond'")
    need_inputs(body, operands, "block 'body'")
    if len(cond.outputs) != 1:
        raise ProgramError("block 'cond' must give one bool", got=f"{len(cond.outputs)} outputs")
    need_flag(cond.outputs[0], "what block 'cond' gives")
    outs = _carried_specs(operands, body, carried)
    if record and not steps:
        raise ArgumentError("a while_loop that records needs a symbol for its number of steps")
    return outs + [Spec((symbol(steps), *outs[i].shape), outs[i].dtype) for i in record]


def _need_counts(
    operands: Sequence[Spec], body: Block, carried: int, scanned: int, record: Sequence[int]
) -> None:
    fits = 0 <= carried <= len(body.outputs) and 0 <= scanned <= len(operands) - carried
    if not fits or any(not 0 <= i < carried for i in record):
        raise ProgramError(
            "a loop carries operands which its body gives anew, and records carried ones",
            got=f"carried={carried}, scanned={scanned}, record={record} with {len(operands)} "
            f"operands and a body of {len(body.outputs)} outputs",
        )


def _carried_specs(operands: Sequence[Spec], body: Block, carried: int) -> list[Spec]:
    for i in range(carried):
        require_spec(body.outputs[i], operands[i], f"carried value {i}")
    return [Spec(v.shape, v.dtype) for v in operands[:carried]]


@while_op.compute
def _(xp, *operands, cond, body, carried, record, steps):
    carry, rest = tuple(operands[:carried]), operands[carried:]
    if xp is not np:
        return _jax_while(carry, rest, cond, body, record)
    history: list[list[Any]] = [[] for _ in record]
    while bool(cond(*carry, *rest)[0]):
        for kept, i in zip(history, record, strict=True):
            kept.append(carry[i])
        carry = body(*carry, *rest)
    return (*carry, *(_stack(h, operands[i]) for h, i in zip(history, record, strict=True)))


def _stack(arrays: list[Any], like: Any) -> np.ndarray:
    return np.stack(arrays) if arrays else np.empty((0, *like.shape), like.dtype)


def _jax_while(carry: Any, rest: Any, cond: Any, body: Any, record: Any) -> Any:
    if record:
        raise EngineError(
            "XLA cannot compile the history of a while_loop: only the data tell its length",
            hint="use ops.scan with a known number of steps where gradients are needed",
        )
    from jax.lax import while_loop as jax_while

    return jax_while(lambda c: cond(*c, *rest)[0], lambda c: tuple(body(*c, *rest)), carry)


@while_op.grad
def _(op, carried, record, gs, vjp, wanted):
    histories = dict(zip(record, gs[carried:], strict=True))
    return loop_gradient(op, gs[:carried], (), histories, vjp, wanted)


@op(name="scan", blocks=("body",))
def scan_op(*operands, body, carried, scanned, length, reverse=False, each=(), record=()):
    """Run `body` for each step t of `length`: the last carried values, then what each step gave.

    operands: `carried` values that change, then `scanned` values [length, ...] of which each step
              sees one slice, then values that stay
    body:     carried values, slices, values that stay -> new carried values, what the step gives
    reverse:  t runs from length - 1 to 0; slices and results keep their places
    each:     (dtype, shape) of what a step gives, one for each
    record:   which carried values to give the history of: what they were before step t
    Results of steps and histories are stacked: [length, ...].
    """
    _need_counts(operands, body, carried, scanned, record)
    stop = carried + scanned
    slices = [
        slice_spec(v, length, f"scanned value {i}") for i, v in enumerate(operands[carried:stop])
    ]
    need_inputs(body, [*operands[:carried], *slices, *operands[stop:]], "block 'body'")
    outs = _carried_specs(operands, body, carried)
    given = [Spec(v.shape, v.dtype) for v in body.outputs[carried:]]
    if len(given) != len(each):
        raise ProgramError("`each` must describe what a step gives", got=f"{each} for {given}")
    for i, (dtype, shape) in enumerate(each):
        require_spec(given[i], Spec(shape, dtype), f"result {i} of a step")
    given += [outs[i] for i in record]
    return outs + [Spec((length, *v.shape), v.dtype) for v in given]


def slice_spec(value: Spec, length: Size, what: str) -> Spec:
    """What one step sees of a scanned value. Raises ShapeError if it has no axis of that length."""
    if value.ndim == 0:
        raise ShapeError(f"{what} has no axis to loop over", got=Spec.__str__(value))
    require_spec(Spec(value.shape[:1]), Spec((length,)), f"the first axis of {what}")
    return Spec(value.shape[1:], value.dtype)


@scan_op.compute
def _(xp, *operands, body, carried, scanned, length, reverse, each, record):
    carry, rest = tuple(operands[:carried]), operands[carried + scanned :]
    xs = operands[carried : carried + scanned]
    if xp is not np:
        return _jax_scan(carry, xs, rest, body, length, reverse, record)
    ys = [np.empty((length, *shape), to_numpy(dtype)) for dtype, shape in each]
    history = [np.empty((length, *carry[i].shape), carry[i].dtype) for i in record]
    for t in reversed(range(length)) if reverse else range(length):
        for kept, i in zip(history, record, strict=True):
            kept[t] = carry[i]
        outs = body(*carry, *(x[t, ...] for x in xs), *rest)
        carry = outs[:carried]
        for y, value in zip(ys, outs[carried:], strict=True):
            y[t] = value
    return (*carry, *ys, *history)


def _jax_scan(
    carry: Any, xs: Any, rest: Any, body: Any, length: int, reverse: bool, record: Any
) -> Any:
    from jax.lax import scan as jax_scan

    def step(c: Any, x: Any) -> Any:
        outs = body(*c, *x, *rest)
        return tuple(outs[: len(c)]), (*outs[len(c) :], *(c[i] for i in record))

    last, ys = jax_scan(step, carry, tuple(xs), length=length, reverse=reverse)
    return (*last, *ys)


@scan_op.grad
def _(op, carried, each, record, gs, vjp, wanted):
    stop = carried + len(each)
    histories = dict(zip(record, gs[stop:], strict=True))
    return loop_gradient(op, gs[:carried], gs[carried:stop], histories, vjp, wanted)
