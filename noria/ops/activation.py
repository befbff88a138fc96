"""Activation functions, element by element, and softmax.

Halves are computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_float, require_equal
from noria.ops.numeric import in_float32, spec_of

IN_PLACE = ((0, 0),)


# ---- piecewise linear --------------------------------------------------------------------------


@op(overwrites=IN_PLACE)
def relu(x):
    """max(x, 0). The gradient at 0 is 0.  (Nair & Hinton, 2010)"""
    if x.dtype == "bool":
        raise DTypeError("relu needs numbers", got=str(x))
    return x


@relu.compute
def _(xp, x):
    return xp.maximum(x, xp.zeros((), x.dtype))


@relu.grad
def _(out, g):
    return o.where(o.greater(out, 0.0), g, 0.0)


@op(overwrites=IN_PLACE)
def leaky_relu(x, *, negative_slope=0.01):
    """x where x > 0, else negative_slope * x.  (Maas et al., 2013)"""
    need_float(x)
    return x


@leaky_relu.compute
@in_float32
def _(xp, x, negative_slope):
    return xp.where(x > 0, x, x * negative_slope)


@leaky_relu.grad
def _(x, out, g, negative_slope):
    sign = out if negative_slope >= 0 else x  # out keeps the sign of x, and x can be overwritten
    return o.where(o.greater(sign, 0.0), g, o.mul(g, negative_slope))


@op
def prelu(x, weight):
    """x where x > 0, else weight * x, with a learned weight.  (He et al., 2015)

    weight: [1] for all, or [C] for the channels, axis 1 of x (axis 0 of a 1-D x).
    """
    need_float(x, weight)
    if weight.ndim != 1 or x.ndim == 0:
        raise ShapeError("prelu needs weight [1] or [channels]", got=f"x: {x}, weight: {weight}")
    if weight.shape[0] != 1:
        require_equal(x.shape[min(1, x.ndim - 1)], weight.shape[0], "channels and prelu weights")
    return x


@prelu.compute
@in_float32
def _(xp, x, weight):
    return xp.where(x > 0, x, x * weight.reshape(_channel_shape(x, weight)))


@prelu.work
def _(x):
    return 2.0 * x.size


@prelu.grad
def _(x, weight, g):
    shape = _channel_shape(x, weight)
    w = o.reshape(weight, shape=shape)
    gw = o.where(o.greater(x, 0.0), 0.0, o.mul(g, x))
    return (
        o.where(o.greater(x, 0.0), g, o.mul(g, w)),
        o.reshape(o.sum_to(gw, shape=shape), shape=weight.shape),
    )


def _channel_shape(x: Any, weight: Any) -> tuple[Any, ...]:
    """Shape in which weight broadcasts along axis 1 of x."""
    return (*weight.shape, *(1,) * max(0, x.ndim - 2))


@op(overwrites=IN_PLACE)
def hard_sigmoid(x, *, slope=1 / 6, offset=0.5):
    """clip(slope * x + offset, 0, 1). The gradient at the corners is 0."""
    need_float(x)
    return x


@hard_sigmoid.compute
@in_float32
def _(xp, x, slope, offset):
    return xp.clip(x * slope + offset, 0.0, 1.0).astype(x.dtype)


@hard_sigmoid.grad
def _(out, g, slope):
    inside = o.logical_and(o.greater(out, 0.0), o.less(out, 1.0))
    return o.where(inside, o.mul(g, slope), 0.0)


@op(overwrites=IN_PLACE)
def hard_swish(x):
    """x * clip(x / 6 + 1/2, 0, 1).  (Howard et al., 2019)"""
    need_float(x)
    return x


@hard_swish.compute
@in_float32
def _(xp, x):
    return x * xp.clip(x / 6 + 0.5, 0.0, 1.0)


@hard_swish.grad
def _(x, g):
    curve = o.where(o.less(o.abs(x), 3.0), o.mul(x, 1 / 6), 0.0)
    return o.mul(g, o.add(o.hard_sigmoid(x), curve))


# ---- exponential -------------------------------------------------------------------------------


@op(overwrites=IN_PLACE)
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    need_float(x)
    return x


@sigmoid.compute
@in_float32
def _(xp, x):
    return _sigmoid(xp, x)


def _sigmoid(xp: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


@sigmoid.grad
def _(out, g):
    return o.mul(g, o.mul(out, o.sub(1.0, out)))


@op(overwrites=IN_PLACE)
def elu(x, *, alpha=1.0):
    """x where x > 0, else alpha * (exp(x) - 1).  (Clevert et al., 2016)"""
    need_float(x)
    return x


@elu.compute
@in_float32
def _(xp, x, alpha):
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


@elu.grad
def _(x, out, g, alpha):
    sign = out if alpha >= 0 else x  # out keeps the sign of x, and x can be overwritten
    return o.where(o.greater(sign, 0.0), g, o.mul(g, o.add(out, alpha)))


@op(overwrites=IN_PLACE)
def gelu(x, *, approximate="none"):
    """x * P(X <= x) for a standard normal X; approximate="tanh" as in the paper's section 2.
    (Hendrycks & Gimpel, 2016)"""
    need_float(x)
    if approximate not in ("none", "tanh"):
        raise ArgumentError("approximate must be 'none' or 'tanh'", got=repr(approximate))
    return x


ROOT_2_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715


@gelu.compute
@in_float32
def _(xp, x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + xp.tanh(ROOT_2_PI * (x + CUBIC * x * x * x)))
    (erf,) = o.erf.run(xp, [x / math.sqrt(2)], {})
    return 0.5 * x * (1 + erf)


@gelu.grad
def _(x, g, approximate):
    if approximate == "tanh":
        square = o.square(x)
        t = o.tanh(o.mul(o.mul(x, o.add(o.mul(square, CUBIC), 1.0)), ROOT_2_PI))
        inner = o.mul(o.add(o.mul(square, 3 * CUBIC), 1.0), ROOT_2_PI)
        bend = o.mul(o.mul(x, o.sub(1.0, o.square(t))), inner)
        return o.mul(g, o.mul(o.add(o.add(t, 1.0), bend), 0.5))
    probability = o.mul(o.add(o.erf(o.mul(x, 1 / math.sqrt(2))), 1.0), 0.5)
    density = o.mul(o.exp(o.mul(o.square(x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return o.mul(g, o.add(probability, o.mul(x, density)))


@op(overwrites=IN_PLACE)
def silu(x):
    """x * sigmoid(x), also called swish.  (Elfwing et al., 2018)"""
    need_float(x)
    return x


@silu.compute
@in_float32
def _(xp, x):
    return x * _sigmoid(xp, x)


@silu.grad
def _(x, g):
    s = o.sigmoid(x)
    return o.mul(g, o.mul(s, o.add(o.mul(x, o.sub(1.0, s)), 1.0)))


@op(overwrites=IN_PLACE)
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    need_float(x)
    if beta <= 0:
        raise ArgumentError("beta must be positive", got=str(beta))
    return x


@softplus.compute
@in_float32
def _(xp, x, beta, threshold):
    return xp.where(x * beta > threshold, x, _softplus(xp, x * beta) / beta)


def _softplus(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@softplus.grad
def _(x, g, beta, threshold):
    scaled = o.mul(x, beta)
    return o.where(o.greater(scaled, threshold), g, o.mul(g, o.sigmoid(scaled)))


@op(overwrites=IN_PLACE)
def mish(x):
    """x * tanh(softplus(x)).  (Misra, 2019)"""
    need_float(x)
    return x


@mish.compute
@in_float32
def _(xp, x):
    return x * xp.tanh(_softplus(xp, x))


@mish.grad
def _(x, g):
    t = o.tanh(o.softplus(x))
    bend = o.mul(o.mul(x, o.sub(1.0, o.square(t))), o.sigmoid(x))
    return o.mul(g, o.add(t, bend))


# ---- along an axis -----------------------------------------------------------------------------


def _along(x: Spec, axis: int) -> Spec:
    need_float(x)
    axis_of(axis, x.ndim)
    return x


@op(overwrites=IN_PLACE)
def softmax(x, *, axis=-1):
    """exp(x - max(x)) normalised along `axis`.  (Bridle, 1990)"""
    return _along(x, axis)


@softmax.compute
@in_float32
def _(xp, x, axis):
    e = xp.exp(_shifted(xp, x, axis))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _shifted(xp: Any, x: Any, axis: int) -> Any:
    """x less its maximum along the axis (which may be empty), so that exp cannot overflow."""
    return x - xp.max(x, axis=axis, keepdims=True, initial=-xp.inf)


@softmax.work
def _(x):
    return 24.0 * x.size  # an exp counts 20


@softmax.grad
def _(out, g, axis):
    d = o.mul(g, out)
    return o.sub(d, o.mul(out, o.reduce_sum(d, axis=axis, keepdims=True)))


@op(overwrites=IN_PLACE)
def log_softmax(x, *, axis=-1):
    """Logarithm of softmax, accurate where softmax is nearly 0."""
    return _along(x, axis)


@log_softmax.compute
@in_float32
def _(xp, x, axis):
    shifted = _shifted(xp, x, axis)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@log_softmax.work
def _(x):
    return 24.0 * x.size  # an exp counts 20


@log_softmax.grad
def _(out, g, axis):
    return o.sub(g, o.mul(o.exp(out), o.reduce_sum(g, axis=axis, keepdims=True)))


# ---- composed ----------------------------------------------------------------------------------


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6).  (Howard et al., 2017)"""
    return o.clip(x, low=0.0, high=6.0)


def hard_tanh(x: Any, *, low: float = -1.0, high: float = 1.0) -> Any:
    """x kept within [low, high]."""
    return o.clip(x, low=low, high=high)


def selu(x: Any) -> Any:
    """scale * elu(x, alpha), with constants that keep mean 0 and variance 1.
    (Klambauer et al., 2017)"""
    return o.mul(o.elu(x, alpha=1.6732632423543772), 1.0507009873554805)


def celu(x: Any, *, alpha: float = 1.0) -> Any:
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)).  (Barron, 2017)"""
    if alpha == 0:
        raise ArgumentError("alpha must not be 0")
    return o.mul(o.elu(o.mul(x, 1 / alpha)), alpha)


def swish(x: Any, *, beta: float = 1.0) -> Any:
    """x * sigmoid(beta * x).  (Ramachandran et al., 2017)"""
    return o.silu(x) if beta == 1 else o.mul(x, o.sigmoid(o.mul(x, beta)))


def softsign(x: Any) -> Any:
    """x / (1 + |x|)."""
    return o.div(x, o.add(o.abs(x), 1.0))


def log_sigmoid(x: Any) -> Any:
    """Logarithm of sigmoid, accurate where sigmoid is nearly 0."""
    return o.neg(o.softplus(o.neg(x), threshold=math.inf))


def tanh_shrink(x: Any) -> Any:
    """x - tanh(x)."""
    return o.sub(x, o.tanh(x))


def soft_shrink(x: Any, *, threshold: float = 0.5) -> Any:
    """x moved towards 0 by threshold, 0 where |x| <= threshold."""
    return o.sub(x, o.clip(x, low=-threshold, high=threshold))


def hard_shrink(x: Any, *, threshold: float = 0.5) -> Any:
    """x, or 0 where |x| <= threshold."""
    return o.where(o.greater(o.abs(x), threshold), x, 0.0)


def thresholded_relu(x: Any, *, threshold: float = 1.0) -> Any:
    """x where x > threshold, else 0.  (Konda et al., 2015)"""
    return o.where(o.greater(x, threshold), x, 0.0)


def glu(x: Any, *, axis: int = -1) -> Any:
    """a * sigmoid(b) for the two halves a, b of x along the axis.  (Dauphin et al., 2017)"""
    a, b = o.split(x, num=2, axis=axis)
    return o.mul(a, o.sigmoid(b))


def maxout(x: Any, groups: int, *, axis: int = 1) -> Any:
    """The largest of each `groups` neighbours along the axis, whose size they divide.
    (Goodfellow et al., 2013)"""
    x_spec = spec_of(x)
    axis = axis_of(axis, x_spec.ndim)
    size = x_spec.shape[axis]
    require_equal(size // groups * groups, size, f"the size of axis {axis} and whole groups")
    shape = (*x_spec.shape[:axis], size // groups, groups, *x_spec.shape[axis + 1 :])
    return o.reduce_max(o.reshape(x, shape=shape), axis=axis + 1)
