"""New values of parameters from their gradients: what optimisers emit.

Every op returns the new parameter and the new state it keeps; nothing is changed in place (the
planner may give an output its input's memory). lr: float32 [], the learning rate; step: int64 [],
the number of the step, from 1. The formulas are PyTorch's.

`<op>_rows` takes a sparse gradient, ids [n] and rows [n, ...]: rows of the same id are summed, and
only the rows named change, parameter and state alike ("lazy").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noria.core.errors import ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ir.sparse import SparseGrad
from noria.ops.common import need_float, need_integer, need_rank, require_equal


def _same(param: Spec, *others: Spec) -> None:
    need_float(param, *others)
    for other in others:
        if len(other.shape) != len(param.shape):
            raise ShapeError("gradient and state have the parameter's shape", got=f"{param}, {other}")
        for a, b in zip(param.shape, other.shape, strict=True):
            require_equal(a, b, "the shapes of parameter, gradient and state")


def _rows(param: Spec, ids: Spec, rows: Spec, *state: Spec) -> None:
    need_integer(ids)
    need_rank(ids, 1, what="ids")
    need_float(rows)
    _same(param, *state)
    if rows.ndim != param.ndim:
        raise ShapeError("rows must be [n, *shape of a row]", got=f"{rows} for {param}")
    require_equal(ids.shape[0], rows.shape[0], "ids and rows")
    for a, b in zip(param.shape[1:], rows.shape[1:], strict=True):
        require_equal(a, b, "a row of the parameter and of the gradient")


def merged_rows(xp: Any, ids: Any, rows: Any, count: int) -> tuple[Any, Any]:
    """(unique ids, summed rows), both as long as `ids`; unused places have the id `count`.

    Sums are in the order of the ids' places, so they do not depend on how ids are spread.
    """
    order = xp.argsort(ids, stable=True) if xp is not np else np.argsort(ids, kind="stable")
    sorted_ids, sorted_rows = ids[order], rows[order]
    new = xp.concatenate([xp.ones((1,), bool), sorted_ids[1:] != sorted_ids[:-1]])[: len(ids)]
    place = xp.cumsum(new.astype("int32")) - 1
    total = xp.zeros_like(sorted_rows)
    unique = xp.full(ids.shape, count, sorted_ids.dtype)
    if xp is np:
        np.add.at(total, place, sorted_rows)
        unique[place] = sorted_ids
        return unique, total
    return unique.at[place].set(sorted_ids), total.at[place].add(sorted_rows)


def _update_rows(
    xp: Any, param: Any, ids: Any, rows: Any, state: Sequence[Any], fn: Callable[..., Any]
) -> tuple[Any, ...]:
    """fn(param rows, gradient rows, *state rows) written back to the rows that ids name."""
    old = (param, *state)
    if ids.shape[0] == 0:
        return old
    if xp is np and ids.size and not (0 <= ids.min() and ids.max() < param.shape[0]):
        raise IndexError(f"ids lie between {ids.min()} and {ids.max()}, rows: {param.shape[0]}")
    unique, total = merged_rows(xp, ids, rows, param.shape[0])
    if xp is np:
        used = unique < param.shape[0]
        unique, total = unique[used], total[used]
        new = fn(param[unique], total, *(s[unique] for s in state))
        out = [a.copy() for a in old]
        for a, n in zip(out, new, strict=True):
            a[unique] = n
        return tuple(out)
    at = xp.minimum(unique, param.shape[0] - 1)
    new = fn(param[at], total, *(s[at] for s in state))
    return tuple(a.at[unique].set(n, mode="drop") for a, n in zip(old, new, strict=True))


# ---- SGD ---------------------------------------------------------------------------------------


def _sgd(param: Any, grad: Any, lr: Any) -> tuple[Any, ...]:
    return (param - lr.astype(param.dtype) * grad,)


@op(overwrites=((0, 0),))
def sgd_update(param, grad, lr):
    """param - lr * grad.  (Robbins and Monro, 1951)"""
    _same(param, grad)
    return param


@sgd_update.compute
def _(xp, param, grad, lr):
    return _sgd(param, grad, lr)


@op(overwrites=((0, 0),))
def sgd_update_rows(param, ids, rows, lr):
    """`sgd_update` of the rows named by ids."""
    _rows(param, ids, rows)
    return param


@sgd_update_rows.compute
def _(xp, param, ids, rows, lr):
    return _update_rows(xp, param, ids, rows, (), lambda p, g: _sgd(p, g, lr))


# ---- momentum ----------------------------------------------------------------------------------


def _momentum(
    param: Any, grad: Any, velocity: Any, lr: Any, momentum: float, nesterov: bool
) -> tuple[Any, ...]:
    velocity = momentum * velocity + grad
    step = grad + momentum * velocity if nesterov else velocity
    return param - lr.astype(param.dtype) * step, velocity


@op(outputs=("out", "new_velocity"), overwrites=((0, 0), (1, 2)))
def momentum_update(param, grad, velocity, lr, *, momentum=0.9, nesterov=False):
    """v = momentum * v + grad; param - lr * v, or param - lr * (grad + momentum * v) (Nesterov).

    (Polyak, 1964; Sutskever et al., 2013)
    """
    _same(param, grad, velocity)
    return param, velocity


@momentum_update.compute
def _(xp, param, grad, velocity, lr, momentum, nesterov):
    return _momentum(param, grad, velocity, lr, momentum, nesterov)


@op(outputs=("out", "new_velocity"), overwrites=((0, 0), (1, 3)))
def momentum_update_rows(param, ids, rows, velocity, lr, *, momentum=0.9, nesterov=False):
    """`momentum_update` of the rows named by ids; the velocity of other rows stands still."""
    _rows(param, ids, rows, velocity)
    return param, velocity


@momentum_update_rows.compute
def _(xp, param, ids, rows, velocity, lr, momentum, nesterov):
    return _update_rows(
        xp,
        param,
        ids,
        rows,
        (velocity,),
        lambda p, g, v: _momentum(p, g, v, lr, momentum, nesterov),
    )


# ---- Adagrad -----------------------------------------------------------------------------------


def _adagrad(
    xp: Any, param: Any, grad: Any, moment: Any, lr: Any, epsilon: float
) -> tuple[Any, ...]:
    moment = moment + grad * grad
    return param - lr.astype(param.dtype) * grad / (xp.sqrt(moment) + epsilon), moment


@op(outputs=("out", "new_moment"), overwrites=((0, 0), (1, 2)))
def adagrad_update(param, grad, moment, lr, *, epsilon=1e-10):
    """s = s + grad^2; param - lr * grad / (sqrt(s) + epsilon).  (Duchi, Hazan and Singer, 2011)"""
    _same(param, grad, moment)
    return param, moment


@adagrad_update.compute
def _(xp, param, grad, moment, lr, epsilon):
    return _adagrad(xp, param, grad, moment, lr, epsilon)


@op(outputs=("out", "new_moment"), overwrites=((0, 0), (1, 3)))
def adagrad_update_rows(param, ids, rows, moment, lr, *, epsilon=1e-10):
    """`adagrad_update` of the rows named by ids."""
    _rows(param, ids, rows, moment)
    return param, moment


@adagrad_update_rows.compute
def _(xp, param, ids, rows, moment, lr, epsilon):
    return _update_rows(
        xp, param, ids, rows, (moment,), lambda p, g, m: _adagrad(xp, p, g, m, lr, epsilon)
    )


# ---- Adam --------------------------------------------------------------------------------------


def _adam(
    xp: Any, param: Any, grad: Any, m: Any, v: Any, lr: Any, step: Any, how: dict[str, float]
) -> tuple[Any, ...]:
    beta1, beta2 = how["beta1"], how["beta2"]
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    wide = xp.asarray(step, lr.dtype)
    rate = (lr / (1 - xp.power(xp.asarray(beta1, lr.dtype), wide))).astype(param.dtype)
    fix = xp.sqrt(1 - xp.power(xp.asarray(beta2, lr.dtype), wide)).astype(param.dtype)
    if how["weight_decay"]:
        param = param - lr.astype(param.dtype) * how["weight_decay"] * param
    return param - rate * m / (xp.sqrt(v) / fix + how["epsilon"]), m, v


@op(outputs=("out", "new_m", "new_v"), overwrites=((0, 0), (1, 2), (2, 3)))
def adam_update(
    param, grad, m, v, lr, step, *, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0
):
    """m = beta1 m + (1-beta1) grad; v = beta2 v + (1-beta2) grad^2;
    param - lr * weight_decay * param
          - lr / (1-beta1^step) * m / (sqrt(v) / sqrt(1-beta2^step) + epsilon).

    (Kingma and Ba, 2015; decoupled decay: Loshchilov and Hutter, 2019)
    """
    _same(param, grad, m, v)
    return param, m, v


@adam_update.compute
def _(xp, param, grad, m, v, lr, step, **how):
    return _adam(xp, param, grad, m, v, lr, step, how)


@op(outputs=("out", "new_m", "new_v"), overwrites=((0, 0), (1, 3), (2, 4)))
def adam_update_rows(
    param, ids, rows, m, v, lr, step, *, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0
):
    """`adam_update` of the rows named by ids; the moments of other rows stand still ("lazy")."""
    _rows(param, ids, rows, m, v)
    return param, m, v


@adam_update_rows.compute
def _(xp, param, ids, rows, m, v, lr, step, **how):
    return _update_rows(
        xp,
        param,
        ids,
        rows,
        (m, v),
        lambda p, g, a, b: _adam(xp, p, g, a, b, lr, step, how),
    )


# ---- RMSProp -----------------------------------------------------------------------------------


def _rmsprop(
    xp: Any, param: Any, grad: Any, square: Any, mean: Any, velocity: Any, lr: Any, how: Any
) -> tuple[Any, ...]:
    square = how["rho"] * square + (1 - how["rho"]) * grad * grad
    spread = square
    if how["centered"]:
        mean = how["rho"] * mean + (1 - how["rho"]) * grad
        spread = square - mean * mean
    scaled = grad / (xp.sqrt(spread) + how["epsilon"])
    step = scaled
    if how["momentum"]:
        velocity = how["momentum"] * velocity + scaled
        step = velocity
    return param - lr.astype(param.dtype) * step, square, mean, velocity


_RMSPROP = ("out", "new_square", "new_mean", "new_velocity")


@op(outputs=_RMSPROP, overwrites=((0, 0), (1, 2), (2, 3), (3, 4)))
def rmsprop_update(
    param,
    grad,
    square,
    mean,
    velocity,
    lr,
    *,
    rho=0.99,
    epsilon=1e-8,
    momentum=0.0,
    centered=False,
):
    """s = rho s + (1-rho) grad^2; d = grad / (sqrt(s) + epsilon); param - lr * d.

    centered: sqrt(s - a^2) with a = rho a + (1-rho) grad (Graves, 2013); momentum: d goes into
    velocity = momentum * velocity + d, which is then the step.  (Hinton, 2012)
    """
    _same(param, grad, square, mean, velocity)
    return param, square, mean, velocity


@rmsprop_update.compute
def _(xp, param, grad, square, mean, velocity, lr, **how):
    return _rmsprop(xp, param, grad, square, mean, velocity, lr, how)


@op(outputs=_RMSPROP, overwrites=((0, 0), (1, 3), (2, 4), (3, 5)))
def rmsprop_update_rows(
    param,
    ids,
    rows,
    square,
    mean,
    velocity,
    lr,
    *,
    rho=0.99,
    epsilon=1e-8,
    momentum=0.0,
    centered=False,
):
    """`rmsprop_update` of the rows named by ids."""
    _rows(param, ids, rows, square, mean, velocity)
    return param, square, mean, velocity


@rmsprop_update_rows.compute
def _(xp, param, ids, rows, square, mean, velocity, lr, **how):
    state = (square, mean, velocity)
    return _update_rows(
        xp, param, ids, rows, state, lambda p, g, s, a, v: _rmsprop(xp, p, g, s, a, v, lr, how)
    )


# ---- clipping ----------------------------------------------------------------------------------


@op(outputs=("unique", "total"))
def merge_rows(ids, rows, *, count):
    """A sparse gradient with each id once: (ids, rows), as long as before.

    Rows of one id are summed; places left over have the id `count` and rows of zeros.
    """
    need_integer(ids)
    need_rank(ids, 1, what="ids")
    require_equal(ids.shape[0], rows.shape[0], "ids and rows")
    return ids, rows


@merge_rows.compute
def _(xp, ids, rows, count):
    return merged_rows(xp, ids, rows, count)


def _squared_norm(grad: Any) -> Any:
    if isinstance(grad, SparseGrad):
        _, rows = o.merge_rows(grad.ids, grad.rows, count=grad.shape[0])
        return o.reduce_sum(o.square(o.cast(rows, dtype="float32")))
    return o.reduce_sum(o.square(o.cast(grad, dtype="float32")))


def global_norm(grads: Sequence[Any]) -> Any:
    """sqrt of the sum of squares of all gradients, float32 []. Sparse ones are merged first."""
    total = _squared_norm(grads[0])
    for g in grads[1:]:
        total = o.add(total, _squared_norm(g))
    return o.sqrt(total)


def clip_by_global_norm(grads: Sequence[Any], norm: float) -> list[Any]:
    """Gradients times norm / max(global norm, norm).  (Pascanu, Mikolov and Bengio, 2013)"""
    scale = o.div(norm, o.maximum(global_norm(grads), norm))
    out: list[Any] = []
    for g in grads:
        if isinstance(g, SparseGrad):
            out.append(SparseGrad(g.ids, _scaled(g.rows, scale), g.shape))
        else:
            out.append(_scaled(g, scale))
    return out


def _scaled(grad: Any, scale: Any) -> Any:
    return o.mul(grad, o.cast(scale, dtype=grad.dtype))
