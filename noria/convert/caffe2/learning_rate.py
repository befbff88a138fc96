"""Learning rates by policy of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.convert.caffe2.common import scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o


def _power(base: float, exponent: Any) -> Any:
    return o.pow(o.fill(shape=(), value=base), exponent)


def _alter(op: Node, t: Any) -> Any:
    on, off = op.attr("active_period", 0), op.attr("inactive_period", 0)
    first = op.attr("active_first", True)
    begin = o.less(o.remainder(t, float(on + off)), float(on if first else off))
    return o.where(begin, float(first), float(not first))


def _warm(op: Node, t: Any) -> Any:
    count, start = float(op.attr("num_iter", 0)), op.attr("start_multiplier", 0.0)
    rising = o.add(o.mul(t, (1 - start) / max(count, 1.0)), start)
    return o.where(o.less(t, count), rising, 1.0)


def _inverse(op: Node, t: Any) -> Any:
    return o.pow(o.add(o.mul(t, op.attr("gamma", 0.0)), 1.0), -op.attr("power", 0.0))


def _hill(op: Node, t: Any) -> Any:
    count = float(op.attr("num_iter", 0))
    later = o.maximum(_inverse(op, o.maximum(o.sub(t, count), 0.0)), op.attr("end_multiplier", 0.0))
    return o.where(o.less(t, count), _warm(op, t), later)


def _step(op: Node, t: Any) -> Any:
    size = op.attr("stepsize", 0)
    if size < 1:
        raise ArgumentError("stepsize is 1 or more", got=str(size))
    return _power(op.attr("gamma", 0.0), o.floor(o.div(t, float(size))))


def _poly(op: Node, t: Any) -> Any:
    left = o.sub(1.0, o.div(t, float(op.attr("max_iter", 1))))
    return o.pow(left, op.attr("power", 0.0))


def _constant_warm(op: Node, t: Any) -> Any:
    early = o.less(t, float(op.attr("num_iter", 0)))
    return o.where(early, op.attr("multiplier", 0.5), 1.0)


def _cosine(op: Node, t: Any) -> Any:
    """Half a cosine between the largest and the smallest rate, again and again, ever longer."""
    high, low = op.attr("max_lr", 0.5), op.attr("min_lr", 0.1)
    period, grown = float(op.attr("period", 50)), op.attr("t_mult", 1.0)
    shrink = op.attr("lr_shrink", 0.99)
    if grown == 1.0:
        cycle = o.floor(o.div(t, period))
        place, length = o.sub(t, o.mul(cycle, period)), period
    else:
        ratio = o.sub(1.0, o.mul(o.div(t, period), 1 - grown))
        cycle = o.floor(o.div(o.log(ratio), float(np.log(grown))))
        scale = _power(grown, cycle)
        length = o.mul(scale, period)
        place = o.sub(t, o.mul(o.div(o.sub(1.0, scale), 1 - grown), period))
    shrunk = _power(shrink, cycle)
    wave = o.add(o.cos(o.mul(o.div(place, length), float(np.pi))), 1.0)
    return o.add(o.mul(o.mul(shrunk, 0.5 * (high - low)), wave), o.mul(shrunk, low))


POLICIES: dict[str, Callable[[Node, Any], Any]] = {
    "fixed": lambda op, t: o.fill(shape=(), value=1.0),
    "alter": _alter,
    "step": _step,
    "exp": lambda op, t: _power(op.attr("gamma", 0.0), t),
    "gate": lambda op, t: o.where(
        o.less(t, float(op.attr("num_iter", 0))),
        op.attr("multiplier_1", 1.0),
        op.attr("multiplier_2", 1.0),
    ),
    "inv": _inverse,
    "poly": _poly,
    "linearWarmup": _warm,
    "constantWarmup": _constant_warm,
    "hill": _hill,
    "cosine": _cosine,
}


@caffe2_op("LearningRate")
def learning_rate(op, step):
    """base_lr times what the policy says of this step; a scalar."""
    policy = op.attr("policy", "")
    if policy not in POLICIES:
        raise ArgumentError("unknown policy", expected=", ".join(POLICIES), got=repr(policy))
    t = o.cast(scalar(step), dtype="float32")
    return o.mul(POLICIES[policy](op, t), op.attr("base_lr", 0.0))
