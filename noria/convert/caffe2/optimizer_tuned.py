"""Updates that tune themselves: STORM, YellowFin; FTRL of whole columns."""

from __future__ import annotations

import math
from typing import Any

from noria.convert.caffe2.common import numel, scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.optimizer import flat_rows, put_rows
from noria.ir.opdef import vocabulary as o

# ---- STORM -------------------------------------------------------------------------------------


def _storm(op: Node, param: Any, moment: Any, total: Any, grad: Any, lr: Any) -> tuple[Any, ...]:
    beta, momentum = op.attr("beta", 0.1), op.attr("momentum", 10.0)
    total = o.add(total, o.reduce_sum(o.square(grad)))
    rate = o.mul(scalar(lr), o.pow(o.add(scalar(total), beta), -1.0 / 3.0))
    keep = o.sub(1.0, o.mul(o.square(rate), momentum))
    new = o.add(grad, o.mul(o.sub(moment, grad), keep))
    return o.add(param, o.mul(new, rate)), new, total


@caffe2_op("Storm")
def storm(op, param, moment, total, grad, lr):
    """(param, moment, sum of squared gradients).  (Cutkosky and Orabona, 2019)"""
    return _storm(op, param, moment, total, grad, lr)


@caffe2_op("SparseStorm")
def sparse_storm(op, param, moment, total, grad, ids, lr):
    ids, rows = flat_rows(ids, grad, param)
    chosen, old = (o.gather(t, ids) for t in (param, moment))
    new, mean, grown = _storm(op, chosen, old, total, rows, lr)
    return put_rows(ids, param, new), put_rows(ids, moment, mean), grown


# ---- FTRL of columns ---------------------------------------------------------------------------


@caffe2_op("GFtrl")
def group_ftrl(op, w, nz, grad, alpha=None):
    """FTRL where a column of w [outputs, inputs] is zero as a whole or not at all.

    nz: [*w.shape, 2], sums of squares and the state z
    """
    rate = op.attr("alpha", 0.005) if alpha is None else scalar(alpha)
    beta, l1, l2 = (
        op.attr(k, d) for k, d in (("beta", 1.0), ("lambda1", 0.001), ("lambda2", 0.001))
    )
    last = len(nz.shape) - 1
    n, z = (
        o.squeeze(o.slice(nz, axes=(last,), starts=(i,), stops=(i + 1,)), axis=last) for i in (0, 1)
    )
    total = o.add(n, o.square(grad))
    sigma = o.div(o.sub(o.sqrt(total), o.sqrt(n)), rate)
    new = o.sub(o.add(z, grad), o.mul(sigma, w))
    length = o.sqrt(o.reduce_sum(o.square(new), axis=0, keepdims=True))
    outputs = o.cast(o.dim_value(dim=w.shape[0]), dtype=w.dtype)
    bound = o.mul(o.sqrt(outputs), l1)
    curve = o.add(o.div(o.add(o.sqrt(total), beta), rate), l2)
    kept = o.greater(length, bound)
    shrunk = o.sub(o.div(bound, o.where(kept, length, 1.0)), 1.0)
    step = o.where(kept, o.div(o.mul(new, shrunk), curve), 0.0)
    return step, o.concat(*(o.unsqueeze(v, axis=last) for v in (total, new)), axis=last)


# ---- YellowFin ---------------------------------------------------------------------------------


@caffe2_op("YellowFin")
def yellow_fin(op, param, moment, lr, mu, window, g_avg, g2_avg, memory, grad, step):
    """(param, moment, rate, momentum, window of curvatures, means of g, of g^2, of scalars).

    (Zhang and Mitliagkas, 2017)  step counts from 1; rate and momentum stay in the first step.
    """
    beta = op.attr("beta", 0.999)
    t = scalar(step)
    fix: Any = 1.0
    if op.attr("zero_debias", True):
        power = o.exp(o.mul(o.cast(t, dtype="float32"), math.log(beta)))
        fix = o.div(1.0, o.sub(1.0, power))

    def mixed(old: Any, new: Any) -> Any:
        return o.add(o.mul(old, beta), o.mul(new, 1 - beta))

    new_param, new_moment = _momentum_step(op, param, moment, scalar(lr), scalar(mu), grad)
    square = o.maximum(o.reduce_sum(o.square(grad)), op.attr("epsilon", 1e-6))
    curves, low, high = _curvatures(window, op.attr("curv_win_width", 20), t, o.log(square))
    mean, mean2 = mixed(g_avg, grad), mixed(g2_avg, o.square(grad))
    before = [o.reshape(p, shape=()) for p in o.split(memory, num=5)]
    norm, norm2, least, most = (
        mixed(old, new)
        for old, new in zip(before[:4], (o.sqrt(square), square, low, high), strict=True)
    )
    distance = mixed(before[4], o.div(norm, norm2))
    scalars = o.concat(*(o.reshape(v, shape=(1,)) for v in (norm, norm2, least, most, distance)))
    variance = o.sub(o.mul(norm2, fix), o.reduce_sum(o.square(o.mul(mean, fix))))
    rate, pull = _tuned(
        o.mul(distance, fix),
        o.maximum(variance, op.attr("epsilon", 1e-6)),
        *(o.maximum(o.exp(o.mul(v, fix)), op.attr("epsilon", 1e-6)) for v in (least, most)),
    )
    later = o.greater(t, 1)
    new_lr, new_mu = (o.where(later, mixed(a, b), a) for a, b in ((lr, rate), (mu, pull)))
    return new_param, new_moment, new_lr, new_mu, curves, mean, mean2, scalars


def _momentum_step(
    op: Node, param: Any, moment: Any, lr: Any, mu: Any, grad: Any
) -> tuple[Any, Any]:
    new = o.add(o.mul(moment, mu), o.mul(grad, lr))
    if op.attr("nesterov", 0):
        return o.add(o.sub(param, o.mul(new, o.add(mu, 1.0))), o.mul(moment, mu)), new
    return o.sub(param, new), new


def _curvatures(window: Any, width: int, step: Any, value: Any) -> tuple[Any, Any, Any]:
    """(the window with a value more, its smallest, its largest)"""
    places = o.arange(stop=numel(window))
    at = o.remainder(o.sub(o.cast(step, dtype="int64"), 1), width)
    curves = o.where(o.equal(places, at), value, window)
    there = o.less(places, o.minimum(o.cast(step, dtype="int64"), width))
    low = o.reduce_min(o.where(there, curves, float("inf")))
    return curves, low, o.reduce_max(o.where(there, curves, float("-inf")))


def _tuned(distance: Any, variance: Any, least: Any, most: Any) -> tuple[Any, Any]:
    """(rate, momentum) that shrink a noisy quadratic fastest: the root of a cubic."""
    ratio = o.sqrt(o.div(most, least))
    bound = o.div(o.sub(ratio, 1.0), o.add(ratio, 1.0))
    p = o.div(o.square(o.mul(distance, least)), o.mul(variance, 2.0))
    square = o.square(p)
    inner = o.sqrt(o.add(square, o.mul(o.mul(square, p), 4.0 / 27.0)))
    cube = o.mul(o.sub(o.neg(inner), p), 0.5)
    w = o.neg(o.pow(o.abs(cube), 1.0 / 3.0))
    root = o.add(o.sub(w, o.div(o.div(p, 3.0), w)), 1.0)
    mu = o.maximum(o.square(root), o.square(bound))
    return o.div(o.square(o.sub(1.0, o.sqrt(mu))), least), mu
