"""The formulas of optimisers on arrays, and how they are applied to some rows of a table.

A rule takes (xp, param, grad, *state, **numbers), arrays of one shape, and gives (new param, *new
state). It is elementwise, so it serves whole arrays and the rows that a sparse gradient names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ops.numeric import widen

Arrays = tuple[Any, ...]


def sgd(xp: Any, param: Any, grad: Any, *, lr: Any) -> Arrays:
    return (param - lr * grad,)


def momentum(
    xp: Any, param: Any, grad: Any, velocity: Any, *, lr: Any, momentum: float, nesterov: bool
) -> Arrays:
    velocity = momentum * velocity + grad
    step = grad + momentum * velocity if nesterov else velocity
    return param - lr * step, velocity


def adagrad(xp: Any, param: Any, grad: Any, moment: Any, *, lr: Any, epsilon: float) -> Arrays:
    moment = moment + grad * grad
    return param - lr * grad / (xp.sqrt(moment) + epsilon), moment


def adam(
    xp: Any,
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    *,
    lr: Any,
    step: Any,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Arrays:
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    rate = lr / one_minus_power(xp, beta1, step, lr.dtype)
    root = xp.sqrt(one_minus_power(xp, beta2, step, lr.dtype))
    decayed = param - lr * weight_decay * param if weight_decay else param
    return decayed - rate * m / (xp.sqrt(v) / root + epsilon), m, v


def one_minus_power(xp: Any, beta: float, step: Any, dtype: Any) -> Any:
    """1 - beta^step, accurate in float32 where beta is nearly 1."""
    if beta == 0:
        return xp.ones((), dtype)
    return -xp.expm1(step.astype(dtype) * np.dtype(dtype).type(math.log(beta)))


def rmsprop(
    xp: Any,
    param: Any,
    grad: Any,
    square: Any,
    mean: Any,
    velocity: Any,
    *,
    lr: Any,
    rho: float,
    epsilon: float,
    momentum: float,
    centered: bool,
) -> Arrays:
    square = rho * square + (1 - rho) * grad * grad
    spread = square
    if centered:
        mean = rho * mean + (1 - rho) * grad
        spread = square - mean * mean
    step = grad / (xp.sqrt(spread) + epsilon)
    if momentum:
        step = velocity = momentum * velocity + step
    return param - lr * step, square, mean, velocity


# ---- how they are applied ----------------------------------------------------------------------


def applied(xp: Any, rule: Callable[..., Arrays], arrays: Sequence[Any], **numbers: Any) -> Arrays:
    """rule(xp, param, grad, *state, **numbers), computed in the dtype of param, or float32 if that
    is a half; results in the dtypes of param and state. numbers: `lr` and `step` are arrays []."""
    dtype = widen(arrays[0]).dtype
    numbers["lr"] = numbers["lr"].astype(dtype)
    new = rule(xp, *(a.astype(dtype) for a in arrays), **numbers)
    kept = (arrays[0], *arrays[2:])
    return tuple(n.astype(old.dtype) for n, old in zip(new, kept, strict=True))


def applied_to_rows(
    xp: Any,
    rule: Callable[..., Arrays],
    ids: Any,
    rows: Any,
    arrays: Sequence[Any],
    **numbers: Any,
) -> Arrays:
    """`applied` to the rows of param and state that ids name; rows of one id are added first.

    arrays: param, *state. Raises ArgumentError for an id that is no row (not under XLA, where it is
    left out).
    """
    count = arrays[0].shape[0]
    if ids.size == 0 or count == 0:
        check_rows(xp, ids, count)
        return tuple(arrays)
    unique, total = merged(xp, ids, rows, arrays[0].shape)
    if xp is np:
        named = unique < count
        unique, total = unique[named], total[named]
    at = xp.minimum(unique, count - 1)
    old = [a[at] for a in arrays]
    new = applied(xp, rule, [old[0], total, *old[1:]], **numbers)
    return tuple(_replaced(xp, a, unique, n) for a, n in zip(arrays, new, strict=True))


def _replaced(xp: Any, array: Any, at: Any, rows: Any) -> Any:
    if xp is not np:
        return array.at[at].set(rows, mode="drop")
    out = array.copy()
    out[at] = rows
    return out


def merged(xp: Any, ids: Any, rows: Any, shape: Sequence[Any]) -> tuple[Any, Any]:
    """(ids in rising order, each once; their rows, added up), both as long as there are ids: places
    left over have the id shape[0] and rows of zeros. Sums of halves are float32.

    rows[i] belongs to all of ids[i]; shape: of the table. Rows are added in the order of their ids.
    Raises ArgumentError for an id that is no row.
    """
    count, row = shape[0], tuple(shape[1:])
    check_rows(xp, ids, count)
    between = (1,) * (ids.ndim + len(row) - rows.ndim)
    rows = rows.reshape(*rows.shape[: rows.ndim - len(row)], *between, *row)
    rows = xp.broadcast_to(rows, (*ids.shape, *row)).reshape(ids.size, *row)
    ids = ids.reshape(-1)
    if xp is not np:  # jax would count a negative id from the end
        ids = xp.where(ids < 0, count, ids)
    order = xp.argsort(ids, stable=True)
    ids, wide = ids[order], widen(rows)[order]
    first = xp.concatenate([xp.ones(ids.shape[:1], bool)[:1], ids[1:] != ids[:-1]])
    place = xp.cumsum(first) - 1
    unique, total = xp.full(ids.shape, count, ids.dtype), xp.zeros_like(wide)
    if xp is np:
        unique[place] = ids
        np.add.at(total, place, wide)
    else:
        unique, total = unique.at[place].set(ids), total.at[place].add(wide)
    return unique, total


def check_rows(xp: Any, ids: Any, count: int) -> None:
    """Raises ArgumentError for an id that is no row; only NumPy's can be looked at."""
    if xp is np:
        wrong = ids[(ids < 0) | (ids >= count)]
        if wrong.size:
            raise ArgumentError(
                "an id is no row of the table", expected=f"0 <= id < {count}", got=str(wrong[0])
            )
