"""What belongs to the rows an update touches: decay of weights, counts, sums with momentum."""

from __future__ import annotations

import math
from typing import Any

from noria.convert.caffe2.common import behind, scalar
from noria.convert.caffe2.handlers import caffe2_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o


def _times(ids: Any, like: Any) -> Any:
    """How often each row of a table is named: float [N]."""
    count = 1
    for n in ids.shape:
        count = count * n
    flat = o.reshape(o.cast(ids, dtype="int64"), shape=(count,))
    ones = o.fill(shape=(count,), value=1.0, dtype=like.dtype)
    return o.scatter_rows(flat, ones, shape=(like.shape[0],))


@caffe2_op("SparseLpRegularizer")
def sparse_lp_regularizer(op, param, ids, grad=None):
    """Rows at ids nearer to zero: by a factor 1 - reg_lambda (p = 2), or by reg_lambda (p = 1),
    once for each time an id comes."""
    p, rate = op.attr("p", 2.0), op.attr("reg_lambda", 1e-5)
    if p not in (1.0, 2.0) or not 0 < rate < 1:
        raise ArgumentError("p is 1 or 2, reg_lambda in (0, 1)", got=f"{p}, {rate}")
    times = behind(_times(ids, param), len(param.shape) - 1)
    if p == 2.0:
        return o.mul(param, o.exp(o.mul(times, math.log1p(-rate))))
    shorter = o.maximum(o.sub(o.abs(param), o.mul(times, rate)), 0.0)
    return o.mul(o.sign(param), shorter)


@caffe2_op("RowWiseCounter")
def row_wise_counter(op, last, counter, ids, step):
    """(step each row was last seen in, how often it was seen, which fades by half every
    `counter_halflife` steps); without a half-life nothing is counted."""
    half = op.attr("counter_halflife", -1)
    if half <= 0:
        return o.identity(last), o.identity(counter)
    times = _times(ids, counter)
    now = o.maximum(last, scalar(step))
    age = o.cast(o.sub(now, last), dtype=counter.dtype)
    faded = o.mul(o.exp(o.mul(age, -math.log(2.0) / half)), counter)
    seen = o.greater(times, 0.0)
    return o.where(seen, now, last), o.where(seen, o.add(faded, times), counter)


@caffe2_op("DecayAdagrad")
def decay_adagrad(op, param, moment, square, grad, lr, step):
    """(param, mean of gradients, sum of squares): Adagrad with momentum; step counts from 0."""
    beta = op.attr("beta1", 0.9)
    mean = o.add(o.mul(moment, beta), o.mul(grad, 1 - beta))
    total = o.add(square, o.square(grad))
    t = o.cast(o.add(scalar(step), 1), dtype="float32")
    fix: Any = 1.0
    if op.attr("bias_correction_first", True):
        fix = o.sub(1.0, o.exp(o.mul(t, math.log(beta)))) if beta > 0 else 1.0
    move = o.div(o.div(mean, fix), o.add(o.sqrt(total), op.attr("epsilon", 1e-5)))
    move = o.add(move, o.mul(param, op.attr("weight_decay", 0.0)))
    return o.add(param, o.mul(move, scalar(lr))), mean, total
