"""What recurrent ops over ragged batches share: inference, the order of steps, their composition.

A batch is packed (see `sequence.py`): all steps of all rows, one after the other, and row_splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.dtypes import as_dtype
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal, require_same_shape
from noria.ops.loops import scan
from noria.ops.numeric import cast_like, rounded, widen
from noria.ops.packed import checked_splits, put_at, row_count

Step = Callable[..., tuple[Sequence[Any], Sequence[Any]]]


def states_spec(x: Spec, weight: Spec, gates: int, row_splits: Spec, **states: Spec | None) -> Spec:
    """The spec of the states [N, H]. Raises for what does not fit."""
    need_float(x, weight, *states.values())
    need_rank(x, 2)
    need_rank(weight, 2, what="weight")
    hidden = weight.shape[1]
    require_equal(weight.shape[0], gates * hidden, f"the rows of weight and {gates} times its rest")
    require_equal(x.shape[1], gates * hidden, "the size of x and the rows of weight")
    spec = Spec((row_count(row_splits), hidden), x.dtype)
    for name, state in states.items():
        if state is not None:
            require_same_shape(spec, state, name)
    return spec


def steps_spec(x: Spec, size: Any) -> Spec:
    return Spec((x.shape[0], size), x.dtype)


# ---- halves ------------------------------------------------------------------------------------

# Where a recurrent weight is a half, what it is multiplied by is rounded to one too, at each step:
# h going forward, the gradients of the gates going back. Sums, states and gates are float32 inside.


def with_products(weight: int, like: Sequence[int]) -> Callable[..., Callable[..., Any]]:
    """Decorates the compute function of a recurrent op, which is called with xp and `narrow`.

    Halves come in as float32; `narrow` rounds what the weight is multiplied by.
    weight: which input that is; like: of each result the input whose dtype it goes out in
    """

    def decorate(compute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(compute)
        def wrapped(xp: Any, *inputs: Any, **attrs: Any) -> Any:
            narrow = partial(rounded, dtype=inputs[weight].dtype)
            outs = compute(xp, narrow, *map(widen, inputs), **attrs)
            return tuple(a.astype(inputs[i].dtype) for a, i in zip(outs, like, strict=True))

        return wrapped

    return decorate


def product_with(weight: Any, x: Any, like: Any, bias: Any = None, *, turned: bool) -> Any:
    """x @ weight (`turned`: weight.T, and a bias) in the dtype of `like`; x is rounded as the
    weight is."""
    dtype = as_dtype(like.dtype)
    how = {} if as_dtype(weight.dtype) == dtype else {"dtype": dtype}
    x = cast_like(x, weight)
    return o.linear(x, weight, bias, **how) if turned else o.matmul(x, weight, **how)


# ---- the order of steps ------------------------------------------------------------------------


def unroll(
    xp: Any,
    step: Step,
    row_splits: Any,
    given: Sequence[Any],
    states: Sequence[Any],
    widths: Sequence[int],
    reverse: bool,
) -> tuple[Sequence[Any], list[Any]]:
    """Run `step` on all rows at once, as long as the longest: (last states, results).

    step:   slices of `given`, one step of each row [N, ...], and states [N, H] -> (new states,
            results of this step [N, width])
    Rows that have ended keep their state; what they give goes to a place that is cut off.
    """
    total = given[0].shape[0]
    splits = checked_splits(xp, row_splits, total)
    starts, lengths = splits[:-1], splits[1:] - splits[:-1]
    padded = [xp.concatenate([a, xp.zeros((1, *a.shape[1:]), a.dtype)]) for a in given]
    outs = [xp.zeros((total + 1, w), given[0].dtype) for w in widths]

    def body(t: Any, carry: Any) -> Any:
        states, outs = carry
        active = t < lengths
        places = starts + (lengths - 1 - t if reverse else t)
        places = xp.where(active, places, total)
        new, results = step(*(a[places] for a in padded), *states)
        kept = [xp.where(active[:, None], a, b) for a, b in zip(new, states, strict=True)]
        return kept, [put_at(a, places, v) for a, v in zip(outs, results, strict=True)]

    states, outs = _repeat(xp, body, xp.max(lengths, initial=0), (list(states), outs))
    return states, [a[:total] for a in outs]


def _repeat(xp: Any, body: Callable[[Any, Any], Any], count: Any, carry: Any) -> Any:
    if xp is not np:
        from jax.lax import fori_loop

        return fori_loop(0, count, body, carry)
    for t in range(count):
        carry = body(t, carry)
    return carry


def step_before(xp: Any, x: Any, row_splits: Any, start: Any, reverse: bool) -> Any:
    """What the step before had: `sequence_shift`."""
    return o.sequence_shift.run(xp, [x, row_splits, start], {"reverse": reverse})[0]


def state_or_zeros(xp: Any, state: Any, row_splits: Any, like: Any) -> Any:
    """The state, or zeros [N, width of `like`]."""
    if state is not None:
        return state
    return xp.zeros((row_splits.shape[0] - 1, like.shape[-1]), like.dtype)


def sigmoid(xp: Any, x: Any) -> Any:
    return o.sigmoid.run(xp, [x], {})[0]


# For decompositions: slopes from results, and scans over the packed positions, whose state starts
# anew with each row, or over the steps of dense rows.


@dataclass(frozen=True)
class DenseRows:
    """In place of row_splits: `rows` rows of `steps` steps, of which the first lengths[n] count.

    A scan then takes a step of all rows at once. lengths: int64 [N], None: all steps count
    """

    rows: Size
    steps: Size
    lengths: Any = None


def scan_steps(
    step: Step, row_splits: Any, given: Sequence[Any], starts: Sequence[Any], reverse: bool
) -> tuple[Any, ...]:
    """Results of `step` at each position [T, ...]; starts: [N, H], the first states of the rows.

    step:       slices of `given`, one step of a row or, for DenseRows, of all rows, and states ->
                (new states, results), each with the same leading axes
    row_splits: or DenseRows; what lies behind the end of a row is then 0
    """
    if isinstance(row_splits, DenseRows):
        return _scan_dense(step, row_splits, given, starts, reverse)
    total = given[0].shape[0]
    ones = o.fill(shape=(row_count(row_splits),), value=1.0)
    fresh = o.greater(o.sequence_place(ones, row_splits, total=total, first=not reverse), 0.0)
    first = [o.sequence_expand(s, row_splits, total=total) for s in starts]
    zeros = [o.fill(shape=(s.shape[1],), value=0.0, dtype=s.dtype) for s in starts]

    def body(states: Any, xs: Any) -> Any:
        flag, begin, slices = xs
        states = [o.where(flag, b, s) for b, s in zip(begin, states, strict=True)]
        new, results = step(*slices, *states)
        return list(new), tuple(results)

    return scan(body, zeros, (fresh, first, list(given)), reverse=reverse)[1]


def _scan_dense(
    step: Step, dense: DenseRows, given: Sequence[Any], starts: Sequence[Any], reverse: bool
) -> tuple[Any, ...]:
    n, t = dense.rows, dense.steps

    def body(states: Any, xs: Any) -> Any:
        place, slices = xs
        new, results = step(*slices, *states)
        if dense.lengths is None:
            return list(new), tuple(results)
        active = o.unsqueeze(o.less(place, dense.lengths), axis=1)
        kept = [o.where(active, a, b) for a, b in zip(new, states, strict=True)]
        return kept, tuple(o.where(active, r, 0.0) for r in results)

    apart = [o.reshape(x, shape=(n, t, x.shape[1])) for x in given]
    xs = o.arange(stop=t), [o.transpose(x, perm=(1, 0, 2)) for x in apart]
    outs = scan(body, list(starts), xs, reverse=reverse)[1]
    outs = [o.transpose(y, perm=(1, 0, 2)) for y in outs]
    return tuple(o.reshape(y, shape=(n * t, y.shape[2])) for y in outs)


def shifted(x: Any, row_splits: Any, start: Any, reverse: bool) -> Any:
    """Each step as the one before it was, the first as `start` [N, H], which may be None."""
    start = None if start is None else cast_like(start, x)
    return o.sequence_shift(x, row_splits, start, reverse=reverse)


def slope_of_sigmoid(y: Any) -> Any:
    """The derivative of sigmoid, where it gave y."""
    return o.mul(y, o.sub(1.0, y))


def slope_of_tanh(y: Any) -> Any:
    """The derivative of tanh, where it gave y."""
    return o.sub(1.0, o.square(y))


def state_value(state: Any, row_splits: Any, width: Any, dtype: Any) -> Any:
    if state is not None:
        return state
    dense = isinstance(row_splits, DenseRows)
    rows = row_splits.rows if dense else row_count(row_splits)
    return o.fill(shape=(rows, width), value=0.0, dtype=dtype)


def weight_grad(dx: Any, x: Any, row_splits: Any, start: Any, reverse: bool) -> Any:
    """The gradient of a recurrent weight: one product over all steps."""
    return o.matmul(dx, shifted(x, row_splits, start, reverse), transpose_x=True)
