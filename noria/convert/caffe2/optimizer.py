"""Updates of parameters: dense, of some rows, one statistic a row.

Caffe2 adds the learning rate times the direction, so it is given as a negative number. In updates
of rows an id names a row once; of several updates of one row in one step one counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from noria.convert.caffe2.common import behind, scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o


def _taken(ids: Any, *tables: Any) -> list[Any]:
    """The rows of tables at ids."""
    return [o.gather(t, ids) for t in tables]


def put_rows(ids: Any, table: Any, rows: Any) -> Any:
    return o.scatter_nd(table, o.unsqueeze(ids, axis=1), rows)


def flat_rows(ids: Any, grad: Any, param: Any) -> tuple[Any, Any]:
    """Ids as a vector and the gradient as rows of the parameter."""
    count = 1
    for n in ids.shape:
        count = count * n
    ids = o.reshape(o.cast(ids, dtype="int64"), shape=(count,))
    return ids, o.reshape(grad, shape=(count, *param.shape[1:]))


def _row_mean(x: Any) -> Any:
    """Mean over everything but the first axis: [N]."""
    axes = tuple(range(1, len(x.shape)))
    return o.reduce_mean(x, axis=axes) if axes else x


def _as_rows_of(vector: Any, like: Any) -> Any:
    return behind(vector, len(like.shape) - 1)


# ---- gradient descent --------------------------------------------------------------------------


def _momentum(op: Node, grad: Any, moment: Any, lr: Any) -> tuple[Any, Any]:
    """(the step to take off, the new moment)"""
    momentum = op.attr("momentum", 0.0)
    new = o.add(o.mul(moment, momentum), o.mul(grad, scalar(lr)))
    if op.attr("nesterov", 0):
        return o.sub(o.mul(new, 1 + momentum), o.mul(moment, momentum)), new
    return new, new


@caffe2_op("MomentumSGD")
def momentum_sgd(op, grad, moment, lr, param=None):
    """(grad, moment) or, where the parameter is given, (grad, moment, param)."""
    step, new = _momentum(op, grad, moment, lr)
    return (step, new) if param is None else (step, new, o.sub(param, step))


@caffe2_op("MomentumSGDUpdate")
def momentum_sgd_update(op, grad, moment, lr, param):
    step, new = _momentum(op, grad, moment, lr)
    return step, new, o.sub(param, step)


@caffe2_op("FP32MomentumSGDUpdate", "FP16MomentumSGDUpdate")
def decayed_momentum_sgd_update(op, grad, moment, lr, param):
    """As MomentumSGDUpdate, in float32, with weight_decay times the parameter in the gradient."""
    dtype = grad.dtype
    grad, moment, wide = (o.cast(v, dtype="float32") for v in (grad, moment, param))
    grad = o.add(grad, o.mul(wide, op.attr("weight_decay", 0.0)))
    step, new = _momentum(op, grad, moment, lr)
    return tuple(o.cast(v, dtype=dtype) for v in (step, new, o.sub(wide, step)))


@caffe2_op("SparseMomentumSGDUpdate")
def sparse_momentum_sgd_update(op, grad, moment, lr, param, ids):
    ids, rows = flat_rows(ids, grad, param)
    old, chosen = _taken(ids, moment, param)
    step, new = _momentum(op, rows, old, lr)
    return (
        o.reshape(step, shape=grad.shape),
        put_rows(ids, moment, new),
        put_rows(ids, param, o.sub(chosen, step)),
    )


# ---- Adagrad and its kin -----------------------------------------------------------------------


def _adagrad(op: Node, param: Any, moment: Any, grad: Any, lr: Any) -> tuple[Any, ...]:
    """(param, moment, effective rate, update); moment may have one number a row."""
    square = o.square(grad)
    per_row = len(moment.shape) < len(param.shape)
    square = _row_mean(square) if per_row else square
    new = o.add(o.mul(moment, op.attr("decay", 1.0)), square)
    wide = _as_rows_of(new, param) if per_row else new
    rate = o.div(scalar(lr), o.add(o.sqrt(wide), op.attr("epsilon", 1e-5)))
    update = o.mul(rate, grad)
    return o.add(param, update), new, rate, update


def _decayed(op: Node, grad: Any, param: Any) -> Any:
    decay = op.attr("weight_decay", 0.0)
    return o.add(grad, o.mul(param, decay)) if decay else grad


def adagrad_row(op: Node, param: Any, moment: Any, grad: Any, lr: Any) -> tuple[Any, Any]:
    """(param, moment) of rows after one update."""
    return _adagrad(op, param, moment, _decayed(op, grad, param), lr)[:2]


@caffe2_op("Adagrad")
def adagrad(op, param, moment, grad, lr):
    """(param, moment, effective rate, update).  (Duchi et al., 2011)"""
    return _adagrad(op, param, moment, _decayed(op, grad, param), lr)


@caffe2_op("SparseAdagrad", "RowWiseSparseAdagrad")
def sparse_adagrad(op, param, moment, ids, grad, lr):
    ids, rows = flat_rows(ids, grad, param)
    chosen, old = _taken(ids, param, moment)
    if op.type.startswith("RowWise") and len(moment.shape) == len(param.shape) > 1:
        old = o.reshape(old, shape=(ids.shape[0],))
    new, square = adagrad_row(op, chosen, old, rows, lr)
    square = o.reshape(square, shape=(ids.shape[0], *moment.shape[1:]))
    return put_rows(ids, param, new), put_rows(ids, moment, square)


def _adadelta(op: Node, param: Any, moment: Any, delta: Any, grad: Any, lr: Any) -> tuple[Any, ...]:
    epsilon, decay = op.attr("epsilon", 1e-5), op.attr("decay", 0.95)
    square = o.add(o.mul(moment, decay), o.mul(o.square(grad), 1 - decay))
    ratio = o.div(o.sqrt(o.add(delta, epsilon)), o.sqrt(o.add(square, epsilon)))
    move = o.mul(ratio, grad)
    moved = o.add(o.mul(delta, decay), o.mul(o.square(move), 1 - decay))
    return o.add(param, o.mul(move, scalar(lr))), square, moved


@caffe2_op("Adadelta")
def adadelta(op, param, moment, delta, grad, lr):
    """(param, mean of squares, mean of squared moves).  (Zeiler, 2012)"""
    return _adadelta(op, param, moment, delta, grad, lr)


@caffe2_op("SparseAdadelta")
def sparse_adadelta(op, param, moment, delta, ids, grad, lr):
    ids, rows = flat_rows(ids, grad, param)
    chosen, square, moved = _taken(ids, param, moment, delta)
    new = _adadelta(op, chosen, square, moved, rows, lr)
    return tuple(put_rows(ids, t, v) for t, v in zip((param, moment, delta), new, strict=True))


@caffe2_op("RmsProp")
def rmsprop(op, grad, square, moment, lr):
    """(step, mean of squares, moment)"""
    decay, momentum = op.attr("decay", 0.9), op.attr("momentum", 0.0)
    new = o.add(square, o.mul(o.sub(o.square(grad), square), 1 - decay))
    scaled = o.div(grad, o.sqrt(o.add(new, op.attr("epsilon", 1e-5))))
    step = o.add(o.mul(moment, momentum), o.mul(scaled, scalar(lr)))
    return step, new, step


def _wngrad(op: Node, param: Any, b: Any, grad: Any, lr: Any) -> tuple[Any, ...]:
    epsilon = op.attr("epsilon", 1e-5)
    rate = o.div(o.reshape(lr, shape=(1,)), o.add(b, epsilon))
    update = o.mul(grad, scalar(rate))
    return o.add(param, update), rate, update


@caffe2_op("Wngrad")
def wngrad(op, param, b, grad, lr):
    """(param, b, effective rate, update): b grows by the square of the gradient / b.
    (Wu et al., 2018)"""
    new, rate, update = _wngrad(op, param, b, grad, lr)
    total = o.reduce_sum(o.square(grad))
    return new, o.add(b, o.div(total, o.add(b, op.attr("epsilon", 1e-5)))), rate, update


@caffe2_op("SparseWngrad")
def sparse_wngrad(op, param, b, ids, grad, lr):
    ids, rows = flat_rows(ids, grad, param)
    (chosen,) = _taken(ids, param)
    new, _, _ = _wngrad(op, chosen, b, rows, lr)
    total = o.reduce_sum(o.square(rows))
    grown = o.add(b, o.div(total, b))
    nothing = o.equal(o.dim_value(dim=ids.shape[0]), 0)
    return put_rows(ids, param, new), o.where(nothing, b, grown)


# ---- Adam --------------------------------------------------------------------------------------


class _Adam(NamedTuple):
    beta1: float
    beta2: float
    epsilon: float
    correction: Any


def _adam_rule(op: Node, step: Any) -> _Adam:
    beta1, beta2 = op.attr("beta1", 0.9), op.attr("beta2", 0.999)
    t = o.cast(o.add(scalar(step), 1), dtype="float32")
    left = [o.sub(1.0, o.pow(np.float32(beta), t)) for beta in (beta1, beta2)]
    return _Adam(beta1, beta2, op.attr("epsilon", 1e-5), o.div(o.sqrt(left[1]), left[0]))


def _adam(rule: _Adam, m1: Any, m2: Any, grad: Any) -> tuple[Any, Any, Any]:
    """(direction, m1, m2); m2 may have one number a row."""
    square = o.square(grad)
    per_row = len(m2.shape) < len(grad.shape)
    square = _row_mean(square) if per_row else square
    mean = o.add(o.mul(m1, rule.beta1), o.mul(grad, 1 - rule.beta1))
    new = o.add(o.mul(m2, rule.beta2), o.mul(square, 1 - rule.beta2))
    wide = _as_rows_of(new, grad) if per_row else new
    move = o.div(o.mul(mean, rule.correction), o.add(o.sqrt(wide), rule.epsilon))
    return move, mean, new


@caffe2_op("Adam")
def adam(op, param, m1, m2, grad, lr, step):
    """(param, moments, the step without the rate); step counts from 0.  (Kingma and Ba, 2015)"""
    move, mean, square = _adam(_adam_rule(op, step), m1, m2, grad)
    return o.add(param, o.mul(move, scalar(lr))), mean, square, move


@caffe2_op("SparseAdam", "RowWiseSparseAdam")
def sparse_adam(op, param, m1, m2, ids, grad, lr, step):
    ids, rows = flat_rows(ids, grad, param)
    chosen, first, second = _taken(ids, param, m1, m2)
    if op.type.startswith("RowWise"):
        second = o.reshape(second, shape=(ids.shape[0],))
    move, mean, square = _adam(_adam_rule(op, step), first, second, rows)
    square = o.reshape(square, shape=(ids.shape[0], *m2.shape[1:]))
    new = o.add(chosen, o.mul(move, scalar(lr)))
    tables = (put_rows(ids, param, new), put_rows(ids, m1, mean), put_rows(ids, m2, square))
    return *tables, o.reshape(move, shape=grad.shape)


# ---- FTRL --------------------------------------------------------------------------------------


def _ftrl(op: Node, w: Any, n: Any, z: Any, grad: Any, alpha: Any) -> tuple[Any, Any, Any]:
    """(McMahan et al., 2013)"""
    beta, l1, l2 = (op.attr(k, d) for k, d in (("beta", 1.0), ("lambda1", 0.0), ("lambda2", 0.0)))
    total = o.add(n, o.square(grad))
    sigma = o.div(o.sub(o.sqrt(total), o.sqrt(n)), alpha)
    new = o.sub(o.add(z, grad), o.mul(sigma, w))
    curve = o.add(o.div(o.add(o.sqrt(total), beta), alpha), l2)
    step = o.div(o.sub(o.mul(o.sign(new), l1), new), curve)
    return o.where(o.greater(o.abs(new), l1), step, 0.0), total, new


def _ftrl_pairs(op: Node, w: Any, nz: Any, grad: Any, alpha: Any) -> tuple[Any, Any]:
    last = len(nz.shape) - 1
    n, z = (
        o.squeeze(o.slice(nz, axes=(last,), starts=(i,), stops=(i + 1,)), axis=last) for i in (0, 1)
    )
    rate = op.attr("alpha", 0.005) if alpha is None else scalar(alpha)
    new, n, z = _ftrl(op, w, n, z, grad, rate)
    return new, o.concat(o.unsqueeze(n, axis=last), o.unsqueeze(z, axis=last), axis=last)


@caffe2_op("Ftrl")
def ftrl(op, w, nz, grad, alpha=None):
    """nz: [*w.shape, 2], sums of squares and the state z."""
    return _ftrl_pairs(op, w, nz, grad, alpha)


@caffe2_op("SparseFtrl")
def sparse_ftrl(op, w, nz, ids, grad, alpha=None):
    ids, rows = flat_rows(ids, grad, w)
    chosen, pairs = _taken(ids, w, nz)
    new, state = _ftrl_pairs(op, chosen, pairs, rows, alpha)
    return put_rows(ids, w, new), put_rows(ids, nz, state)


# ---- scaling -----------------------------------------------------------------------------------


@caffe2_op("Lars")
def lars(op, x, dx, decay, trust, largest):
    """A rate for one layer: trust * |x| / (|dx| + ...), kept within bounds.  (You et al., 2017)"""
    lengths = [o.sqrt(o.reduce_sum(o.square(v))) for v in (x, dx)]
    ratio = o.div(lengths[1], o.where(o.greater(lengths[0], 0.0), lengths[0], 1.0))
    below = o.add(o.add(ratio, scalar(decay)), op.attr("offset", 0.5))
    rate = o.where(o.greater(lengths[0], 0.0), o.div(scalar(trust), below), 1.0)
    rate = o.maximum(o.minimum(rate, scalar(largest)), op.attr("lr_min", 0.02))
    return o.reshape(rate, shape=(1,))


@caffe2_op("LearningRateAdaption")
def learning_rate_adaption(op, lr, grad, effective):
    """A rate that follows the product of the last two directions.  (Baydin et al., 2018)"""
    alpha = op.attr("lr_alpha", 0.01)
    along = o.reduce_sum(o.mul(grad, effective))
    if not op.attr("normalized_lr_adaption", True):
        return o.sub(lr, o.mul(along, alpha))
    lengths = [o.maximum(o.sqrt(o.reduce_sum(o.square(v))), 1e-12) for v in (grad, effective)]
    return o.mul(lr, o.sub(1.0, o.mul(o.div(along, o.mul(*lengths)), alpha)))


@caffe2_op("ClipTensorByScaling")
def clip_tensor_by_scaling(op, x, value, more=None):
    """x times threshold / value where value is above the threshold (times `more`)."""
    limit: Any = op.attr("threshold", 0.0)
    limit = limit if more is None else o.mul(scalar(more), limit)
    value = scalar(value)
    over = o.greater(value, limit)
    return o.where(over, o.mul(x, o.div(limit, o.where(over, value, 1.0))), x)


@caffe2_op("SparseNormalize")
def sparse_normalize(op, param, ids, grad=None):
    """Rows at ids shortened to the length `norm`; use_max_norm: only those that are longer."""
    ids = o.cast(ids, dtype="int64")
    rows = o.gather(param, ids)
    axes = tuple(range(1, len(rows.shape)))
    square = o.square(rows)
    length = o.sqrt(o.reduce_sum(square, axis=axes, keepdims=True) if axes else square)
    limit = op.attr("norm", 1.0)
    scaled = o.mul(rows, o.div(limit, o.add(length, 1e-12)))
    if op.attr("use_max_norm", True):
        scaled = o.where(o.greater(length, limit), scaled, rows)
    return put_rows(ids, param, scaled)


@caffe2_op("WeightScale")
def weight_scale(op, w, step):
    """w times `scale` every `stepsize` steps, until `upper_bound_iter`; and the next step."""
    size, limit = op.attr("stepsize", 0), op.attr("upper_bound_iter", np.iinfo(np.int64).max)
    if size < 1:
        raise ArgumentError("stepsize is 1 or more", got=str(size))
    after = o.add(step, 1)
    now = o.logical_and(o.equal(o.remainder(scalar(after), size), 0), o.less(scalar(after), limit))
    return o.where(now, o.mul(w, op.attr("scale", 1.0)), w), after


@caffe2_op("Iter", "AtomicIter")
def iteration(op, *blobs):
    """The count of steps, one more."""
    step = blobs[-1] if blobs else o.fill(shape=(1,), value=0, dtype="int64")
    return o.add(step, 1)
