"""New values of parameters from their gradients: what optimisers emit.

Every op returns the new parameter and the new state it keeps; nothing is changed in place (the
planner may give an output its input's memory). lr: float [], the learning rate; step: int64 [], the
number of the step, from 1. The formulas are PyTorch's; halves are computed in float32.

`<op>_rows` takes a sparse gradient, ids [..., *per] and rows [..., *param.shape[1:]]: rows[i]
belongs to every id of ids[i]. Rows of the same id are added, and only the rows named change,
parameter and state alike ("lazy").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec
from noria.ir.sparse import SparseGrad
from noria.ops import update_rules as rules
from noria.ops.common import need_float, need_integer, require_same_shape
from noria.ops.numeric import cast_like


def _check(param: Spec, lr: Spec, step: Spec | None = None, **others: Spec) -> None:
    """Gradient and state have the parameter's shape; lr and step are scalars."""
    need_float(param, lr, *others.values())
    for name, value in others.items():
        require_same_shape(param, value, name)
    need_integer(step)
    for name, scalar in (("lr", lr), ("step", step)):
        if scalar is not None and scalar.shape != ():
            raise ShapeError(f"{name} must be a scalar", got=str(scalar))


def _check_rows(param: Spec, ids: Spec, rows: Spec, lr: Spec, **others: Any) -> None:
    """As `_check`, for a sparse gradient."""
    if param.ndim == 0:
        raise ShapeError("a scalar has no rows", got=str(param))
    _check_pair(ids, rows, param.shape[1:])
    _check(param, lr, **others)


def _check_pair(ids: Spec, rows: Spec, row: Shape) -> None:
    """ids [..., *per] and rows [..., *row]."""
    need_float(rows)
    need_integer(ids)
    lead = rows.ndim - len(row)
    if not 0 <= lead <= ids.ndim:
        raise ShapeError("rows belong to ids", expected=f"{ids}, rows {list(row)}", got=str(rows))
    require_same_shape(Spec((*ids.shape[:lead], *row), rows.dtype), rows, "rows")


def _check_fractions(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < 1:
            raise ArgumentError(f"{name} lies in [0, 1)", got=repr(value))


def _work_of_rows(states: int, operations: int) -> Callable[[Any, Any], tuple[float, float]]:
    """Of an update that changes only the rows named: they are read and written in each state."""

    def work(ids: Any, rows: Any) -> tuple[float, float]:
        return float(operations * rows.size), ids.nbytes + rows.nbytes * (1.0 + 2.0 * states)

    return work


# ---- SGD ---------------------------------------------------------------------------------------


@op(overwrites=((0, 0),))
def sgd_update(param, grad, lr):
    """param - lr * grad.  (Robbins & Monro, 1951)"""
    _check(param, lr, grad=grad)
    return param


@sgd_update.compute
def _(xp, param, grad, lr):
    return rules.applied(xp, rules.sgd, (param, grad), lr=lr)


@op(overwrites=((0, 0),))
def sgd_update_rows(param, ids, rows, lr):
    """`sgd_update` of the rows that ids name."""
    _check_rows(param, ids, rows, lr)
    return param


sgd_update_rows.work(_work_of_rows(1, 2))


@sgd_update_rows.compute
def _(xp, param, ids, rows, lr):
    return rules.applied_to_rows(xp, rules.sgd, ids, rows, (param,), lr=lr)


# ---- momentum ----------------------------------------------------------------------------------


@op(outputs=("out", "new_velocity"), overwrites=((0, 0), (1, 2)))
def momentum_update(param, grad, velocity, lr, *, momentum=0.9, nesterov=False):
    """v = momentum * v + grad; param - lr * v, or with nesterov param - lr * (grad + momentum * v).
    (Polyak, 1964; Sutskever et al., 2013)"""
    _check(param, lr, grad=grad, velocity=velocity)
    return param, velocity


@momentum_update.compute
def _(xp, param, grad, velocity, lr, **how):
    return rules.applied(xp, rules.momentum, (param, grad, velocity), lr=lr, **how)


@op(outputs=("out", "new_velocity"), overwrites=((0, 0), (1, 3)))
def momentum_update_rows(param, ids, rows, velocity, lr, *, momentum=0.9, nesterov=False):
    """`momentum_update` of the rows that ids name; the velocity of other rows stands still."""
    _check_rows(param, ids, rows, lr, velocity=velocity)
    return param, velocity


momentum_update_rows.work(_work_of_rows(2, 4))


@momentum_update_rows.compute
def _(xp, param, ids, rows, velocity, lr, **how):
    return rules.applied_to_rows(xp, rules.momentum, ids, rows, (param, velocity), lr=lr, **how)


# ---- Adagrad -----------------------------------------------------------------------------------


@op(outputs=("out", "new_moment"), overwrites=((0, 0), (1, 2)))
def adagrad_update(param, grad, moment, lr, *, epsilon=1e-10):
    """s = s + grad^2; param - lr * grad / (sqrt(s) + epsilon).  (Duchi, Hazan & Singer, 2011)"""
    _check(param, lr, grad=grad, moment=moment)
    return param, moment


@adagrad_update.compute
def _(xp, param, grad, moment, lr, epsilon):
    return rules.applied(xp, rules.adagrad, (param, grad, moment), lr=lr, epsilon=epsilon)


@op(outputs=("out", "new_moment"), overwrites=((0, 0), (1, 3)))
def adagrad_update_rows(param, ids, rows, moment, lr, *, epsilon=1e-10):
    """`adagrad_update` of the rows that ids name."""
    _check_rows(param, ids, rows, lr, moment=moment)
    return param, moment


adagrad_update_rows.work(_work_of_rows(2, 8))


@adagrad_update_rows.compute
def _(xp, param, ids, rows, moment, lr, **how):
    return rules.applied_to_rows(xp, rules.adagrad, ids, rows, (param, moment), lr=lr, **how)


# ---- Adam --------------------------------------------------------------------------------------


@op(outputs=("out", "new_m", "new_v"), overwrites=((0, 0), (1, 2), (2, 3)))
def adam_update(
    param, grad, m, v, lr, step, *, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0
):
    """m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad^2;
    param - lr weight_decay param
          - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon).

    (Kingma & Ba, 2015; weight decay beside the moments: Loshchilov & Hutter, 2019)
    """
    _check_fractions(beta1=beta1, beta2=beta2)
    _check(param, lr, step, grad=grad, m=m, v=v)
    return param, m, v


@adam_update.compute
def _(xp, param, grad, m, v, lr, step, **how):
    return rules.applied(xp, rules.adam, (param, grad, m, v), lr=lr, step=step, **how)


@op(outputs=("out", "new_m", "new_v"), overwrites=((0, 0), (1, 3), (2, 4)))
def adam_update_rows(
    param, ids, rows, m, v, lr, step, *, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0
):
    """`adam_update` of the rows that ids name; the moments of other rows stand still, and they are
    not decayed."""
    _check_fractions(beta1=beta1, beta2=beta2)
    _check_rows(param, ids, rows, lr, step=step, m=m, v=v)
    return param, m, v


adam_update_rows.work(_work_of_rows(3, 12))


@adam_update_rows.compute
def _(xp, param, ids, rows, m, v, lr, step, **how):
    return rules.applied_to_rows(xp, rules.adam, ids, rows, (param, m, v), lr=lr, step=step, **how)


# ---- RMSProp -----------------------------------------------------------------------------------

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
    """s = rho s + (1 - rho) grad^2;  d = grad / (sqrt(s) + epsilon);  param - lr * d.

    centered: sqrt(s - a^2) with a = rho a + (1 - rho) grad (Graves, 2013); momentum: d goes into
    velocity = momentum * velocity + d, which is then the step.  (Hinton, 2012)
    """
    _check_fractions(rho=rho)
    _check(param, lr, grad=grad, square=square, mean=mean, velocity=velocity)
    return param, square, mean, velocity


@rmsprop_update.compute
def _(xp, param, grad, square, mean, velocity, lr, **how):
    arrays = (param, grad, square, mean, velocity)
    return rules.applied(xp, rules.rmsprop, arrays, lr=lr, **how)


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
    """`rmsprop_update` of the rows that ids name."""
    _check_fractions(rho=rho)
    _check_rows(param, ids, rows, lr, square=square, mean=mean, velocity=velocity)
    return param, square, mean, velocity


rmsprop_update_rows.work(_work_of_rows(4, 12))


@rmsprop_update_rows.compute
def _(xp, param, ids, rows, square, mean, velocity, lr, **how):
    arrays = (param, square, mean, velocity)
    return rules.applied_to_rows(xp, rules.rmsprop, ids, rows, arrays, lr=lr, **how)


# ---- clipping ----------------------------------------------------------------------------------


@op(outputs=("unique", "total"))
def merge_rows(ids, rows, *, shape):
    """A sparse gradient of a table of `shape` with each id once: ids [n], rows [n, *shape[1:]],
    where n is the number of all ids.

    Ids rise, rows of one id are added; places left over have the id shape[0] and rows of zeros.
    """
    if not shape:
        raise ShapeError("a scalar has no rows", got="a table []")
    _check_pair(ids, rows, shape[1:])
    n = product(ids.shape)
    return Spec((n,), ids.dtype), Spec((n, *shape[1:]), rows.dtype)


@merge_rows.compute
def _(xp, ids, rows, shape):
    unique, total = rules.merged(xp, ids, rows, shape)
    return unique, total.astype(rows.dtype)


def _squared_norm(grad: Any) -> Any:
    rows = grad
    if isinstance(grad, SparseGrad):
        _, rows = o.merge_rows(grad.ids, grad.rows, shape=grad.shape)
    return o.reduce_sum(o.square(o.cast(rows, dtype="float32")))


def global_norm(grads: Sequence[Any]) -> Any:
    """sqrt of the sum of squares of all gradients, float32 []. Rows of one id are added first."""
    if not grads:
        raise ArgumentError("there is no norm of no gradients")
    total = _squared_norm(grads[0])
    for g in grads[1:]:
        total = o.add(total, _squared_norm(g))
    return o.sqrt(total)


def clip_by_global_norm(grads: Sequence[Any], norm: float) -> list[Any]:
    """Gradients times norm / max(global norm, norm).  (Pascanu, Mikolov & Bengio, 2013)"""
    if norm <= 0:
        raise ArgumentError("the norm must be positive", got=repr(norm))
    scale = o.div(norm, o.maximum(global_norm(grads), norm))
    out: list[Any] = []
    for g in grads:
        if isinstance(g, SparseGrad):
            out.append(SparseGrad(g.ids, o.mul(g.rows, cast_like(scale, g.rows)), g.shape))
        else:
            out.append(o.mul(g, cast_like(scale, g)))
    return out
