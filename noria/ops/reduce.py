"""Reductions: one number out of many, along some axes.

`axis` is an integer, a tuple of them, or None for all axes; with `keepdims` the reduced axes stay,
with size 1. Sums of integers and booleans are int64; sums of float16 and bfloat16 are accumulated
in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.core.dims import Size, product
from noria.core.dtypes import as_dtype, is_float, to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axes_of, axis_of, broadcast, need_float, require_same_shape, shaped
from noria.ops.numeric import in_float32, spec_of, wide_dtype, widen

Axis = int | Sequence[int] | None


def reduced_shape(x: Spec, axis: Axis, keepdims: bool) -> Shape:
    """The shape left after a reduction. Raises ArgumentError for a bad axis."""
    axes = axes_of(axis, x.ndim)
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _wide(dtype: str) -> str:
    """The dtype in which sums are accumulated."""
    return wide_dtype(dtype) if is_float(dtype) else "int64"


def _sum_dtype(dtype: str) -> str:
    return dtype if is_float(dtype) else "int64"


def _total(xp: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The sum, not yet rounded."""
    return xp.sum(x, axis=axes, dtype=to_numpy(_wide(as_dtype(x.dtype))), keepdims=keepdims)


def _spread(g: Any, x: Spec, axis: Axis, keepdims: bool) -> Any:
    """The gradient of a result, again along the axes that were reduced."""
    return o.broadcast_to(_kept(g, x, axis, keepdims), shape=x.shape)


def _kept(out: Any, x: Spec, axis: Axis, keepdims: bool) -> Any:
    """A result as `keepdims=True` would have given it."""
    axes = axes_of(axis, x.ndim)
    return out if keepdims or not axes else o.unsqueeze(out, axis=axes)


# ---- sums --------------------------------------------------------------------------------------


@op
def reduce_sum(x, *, axis=None, keepdims=False):
    """The sum; 0 for nothing."""
    return Spec(reduced_shape(x, axis, keepdims), _sum_dtype(x.dtype))


@reduce_sum.compute
def _(xp, x, axis, keepdims):
    total = _total(xp, x, axes_of(axis, x.ndim), keepdims)
    return total.astype(to_numpy(_sum_dtype(as_dtype(x.dtype))))


@reduce_sum.grad
def _(x, g, axis, keepdims):
    return _spread(g, x, axis, keepdims)


@op
def reduce_mean(x, *, axis=None, keepdims=False):
    """The mean; NaN for nothing. Integers give float32."""
    return Spec(reduced_shape(x, axis, keepdims), x.dtype if is_float(x.dtype) else "float32")


@reduce_mean.compute
def _(xp, x, axis, keepdims):
    axes = axes_of(axis, x.ndim)
    total = _total(xp, x, axes, keepdims)
    count = math.prod(x.shape[a] for a in axes)
    mean = total / count if count else total * math.nan
    return mean.astype(x.dtype if is_float(as_dtype(x.dtype)) else "float32")


@reduce_mean.grad
def _(x, g, axis, keepdims):
    count = product(x.shape[a] for a in axes_of(axis, x.ndim))
    return _spread(_divided(g, count), x, axis, keepdims)


def _divided(g: Any, count: Size) -> Any:
    """g / count, where count may be symbolic. Not in float16, which ends at 65504."""
    dtype = as_dtype(g.dtype)
    wide = _wide(dtype)
    if isinstance(count, int):
        divisor = o.fill(shape=(), value=float(count), dtype=wide)
    else:
        divisor = o.cast(o.dim_value(dim=count), dtype=wide)
    return _as(o.div(g, divisor), dtype)


@op
def sum_to(x, *, shape):
    """x summed over the axes along which an array of `shape` was broadcast to x.

    Leading axes that `shape` lacks and axes where it has a literal 1 are summed; all others are
    taken to be equal. Where nothing is to be summed no operator is emitted: x itself comes back.
    Raises ShapeError if `shape` does not broadcast to x.
    """
    target = Spec(shape, x.dtype)
    if target.ndim > x.ndim or not _may_equal(broadcast(x, target), x.shape):
        raise ShapeError("the shape does not broadcast to x", expected=str(x), got=str(target))
    return target


@sum_to.compute
def _(xp, x, shape):
    target = as_shape(shape)
    return _total(xp, x, _summed(x.shape, target), True).astype(x.dtype).reshape(target)


@sum_to.shortcut
def _(x, shape):
    target = as_shape(shape)
    same = x.ndim == len(target) and not _summed(x.shape, target)
    return x if same and _may_equal(x.shape, target) else None


@sum_to.grad
def _(x, g):
    return o.broadcast_to(g, shape=x.shape)


def _may_equal(left: Shape, right: Shape) -> bool:
    pairs = zip(left, right, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _summed(shape: Shape, target: Shape) -> tuple[int, ...]:
    """The axes of `shape` along which `target` was broadcast."""
    lead = len(shape) - len(target)
    stretched = (lead + i for i, d in enumerate(target) if d == 1 and shape[lead + i] != 1)
    return (*range(lead), *stretched)


# ---- extremes ----------------------------------------------------------------------------------


def _extreme(x: Spec, axis: Axis, keepdims: bool) -> Spec:
    if 0 in [x.shape[a] for a in axes_of(axis, x.ndim)]:
        raise ShapeError("there is nothing to choose from", got=f"{x}, {axis=}")
    return Spec(reduced_shape(x, axis, keepdims), x.dtype)


def _pick(xp: Any, choose: str, x: Any, axis: Axis, keepdims: bool) -> Any:
    _extreme(spec_of(x), axis, keepdims)  # raises: a symbolic size may turn out to be 0
    return getattr(xp, choose)(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


def _extreme_grad(x: Any, out: Any, g: Any, axis: Axis, keepdims: bool) -> Any:
    """Equal shares for all that are the extreme."""
    axes = axes_of(axis, x.ndim)
    chosen = o.cast(o.equal(x, _kept(out, x, axis, keepdims)), dtype=g.dtype)
    count = o.reduce_sum(chosen, axis=axes, keepdims=True)
    return o.mul(chosen, o.div(_kept(g, x, axis, keepdims), count))


@op
def reduce_max(x, *, axis=None, keepdims=False):
    """The largest; NaN if one is. The gradient of a tie is shared equally.

    Raises ShapeError where there is nothing to choose from.
    """
    return _extreme(x, axis, keepdims)


@reduce_max.compute
def _(xp, x, axis, keepdims):
    return _pick(xp, "max", x, axis, keepdims)


@reduce_max.grad
def _(x, out, g, axis, keepdims):
    return _extreme_grad(x, out, g, axis, keepdims)


@op
def reduce_min(x, *, axis=None, keepdims=False):
    """The smallest; NaN if one is. The gradient of a tie is shared equally.

    Raises ShapeError where there is nothing to choose from.
    """
    return _extreme(x, axis, keepdims)


@reduce_min.compute
def _(xp, x, axis, keepdims):
    return _pick(xp, "min", x, axis, keepdims)


@reduce_min.grad
def _(x, out, g, axis, keepdims):
    return _extreme_grad(x, out, g, axis, keepdims)


# ---- other reductions --------------------------------------------------------------------------


@op
def reduce_prod(x, *, axis=None, keepdims=False):
    """The product; 1 for nothing. Its gradient is exact at zeros too."""
    return Spec(reduced_shape(x, axis, keepdims), _sum_dtype(x.dtype))


@reduce_prod.compute
def _(xp, x, axis, keepdims):
    dtype = as_dtype(x.dtype)
    axes = axes_of(axis, x.ndim)
    out = xp.prod(x, axis=axes, dtype=to_numpy(_wide(dtype)), keepdims=keepdims)
    return out.astype(to_numpy(_sum_dtype(dtype)))


@reduce_prod.grad
def _(x, g, axis, keepdims):
    axes = axes_of(axis, x.ndim)
    zero = o.equal(x, 0.0)
    filled = o.where(zero, 1.0, x)
    zeros = o.reduce_sum(zero, axis=axes, keepdims=True)
    product_of_rest = o.div(o.reduce_prod(filled, axis=axes, keepdims=True), filled)
    others_have_none = o.equal(zeros, o.cast(zero, dtype="int64"))
    others = o.where(others_have_none, product_of_rest, 0.0)
    return o.mul(_kept(g, x, axis, keepdims), others)


@op
def reduce_all(x, *, axis=None, keepdims=False):
    """Whether all are true (or not 0); true for nothing."""
    return Spec(reduced_shape(x, axis, keepdims), "bool")


@reduce_all.compute
def _(xp, x, axis, keepdims):
    return xp.all(x != 0, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@op
def reduce_any(x, *, axis=None, keepdims=False):
    """Whether one is true (or not 0); false for nothing."""
    return Spec(reduced_shape(x, axis, keepdims), "bool")


@reduce_any.compute
def _(xp, x, axis, keepdims):
    return xp.any(x != 0, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@op
def logsumexp(x, *, axis=None, keepdims=False):
    """log(sum(exp(x))) without overflow; -inf for nothing and where all are -inf."""
    need_float(x)
    return Spec(reduced_shape(x, axis, keepdims), x.dtype)


@logsumexp.compute
def _(xp, x, axis, keepdims):
    axes = axes_of(axis, x.ndim)
    wide = widen(x)
    top = xp.max(wide, axis=axes, keepdims=True, initial=-math.inf)
    top = xp.where(xp.isfinite(top), top, 0)
    total = xp.log(xp.sum(xp.exp(wide - top), axis=axes, keepdims=True)) + top
    kept = total.astype(x.dtype)
    return kept if keepdims else kept.squeeze(axes)


@logsumexp.work
def _(x):
    return 23.0 * x.size  # an exp counts 20


@logsumexp.grad
def _(x, out, g, axis, keepdims):
    total = _kept(out, x, axis, keepdims)
    total = o.where(o.equal(total, -math.inf), 0.0, total)  # -inf - -inf would be NaN
    return o.mul(_kept(g, x, axis, keepdims), o.exp(o.sub(x, total)))


@op
def cumsum(x, *, axis, exclusive=False, reverse=False):
    """Running sums along one axis.

    exclusive: each sum without the element itself, so the first is 0; reverse: from the end.
    """
    axis_of(axis, x.ndim)
    return Spec(x.shape, _sum_dtype(x.dtype))


@cumsum.compute
def _(xp, x, axis, exclusive, reverse):
    dtype = as_dtype(x.dtype)
    x = xp.moveaxis(x, axis, -1)
    x = x[..., ::-1] if reverse else x
    out = xp.cumsum(x, axis=-1, dtype=to_numpy(_wide(dtype)))
    if exclusive:
        out = xp.concatenate([xp.zeros_like(out[..., :1]), out[..., :-1]], axis=-1)
    out = xp.moveaxis(out[..., ::-1] if reverse else out, -1, axis)
    return out.astype(to_numpy(_sum_dtype(dtype)))


@cumsum.grad
def _(g, axis, exclusive, reverse):
    return o.cumsum(g, axis=axis, exclusive=exclusive, reverse=not reverse)


@op
def cumprod(x, *, axis, exclusive=False, reverse=False):
    """Running products along one axis.

    exclusive: each product without the element itself, so the first is 1; reverse: from the end.
    """
    axis_of(axis, x.ndim)
    return Spec(x.shape, _sum_dtype(x.dtype))


@cumprod.compute
def _(xp, x, axis, exclusive, reverse):
    dtype = as_dtype(x.dtype)
    x = xp.moveaxis(x, axis, -1)
    x = x[..., ::-1] if reverse else x
    out = xp.cumprod(x, axis=-1, dtype=to_numpy(_wide(dtype)))
    if exclusive:
        out = xp.concatenate([xp.ones_like(out[..., :1]), out[..., :-1]], axis=-1)
    out = xp.moveaxis(out[..., ::-1] if reverse else out, -1, axis)
    return out.astype(to_numpy(_sum_dtype(dtype)))


@cumprod.grad
def _(x, g, axis, exclusive, reverse):
    return o.cumprod_grad(x, g, axis=axis, exclusive=exclusive, reverse=reverse)


@op
def cumprod_grad(x, grad, *, axis, exclusive=False, reverse=False):
    """The gradient of cumprod in x, from that of its result; right where factors are 0.

    Element i is in every product behind it: with a_i the product before it, and b_i the gradients
    behind it, each times the factors in between, dx_i = a_i * b_i, where b is a recurrence from
    the end, b_i = grad_i + x_(i+1) * b_(i+1).
    """
    require_same_shape(x, grad, "grad")
    axis_of(axis, x.ndim)
    return x


@cumprod_grad.compute
@in_float32
def _(xp, x, grad, axis, exclusive, reverse):
    x, grad = xp.moveaxis(x, axis, 0), xp.moveaxis(grad, axis, 0)
    x, grad = (x[::-1], grad[::-1]) if reverse else (x, grad)
    if exclusive:  # product i holds the factors before i
        grad = xp.concatenate([grad[1:], xp.zeros_like(grad[:1])])
    before = xp.concatenate([xp.ones_like(x[:1]), xp.cumprod(x, axis=0)[:-1]])
    behind, rows = xp.zeros_like(x[0]) if x.shape[0] else None, []
    for i in range(x.shape[0] - 1, -1, -1):
        behind = grad[i] + (x[i + 1] * behind if i + 1 < x.shape[0] else 0)
        rows.append(before[i] * behind)
    out = xp.stack(rows[::-1]) if rows else x
    return xp.moveaxis(out[::-1] if reverse else out, 0, axis)


# ---- composed ----------------------------------------------------------------------------------


def variance(x: Any, *, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Any:
    """Mean squared distance from the mean, divided by n - correction instead of n.

    correction: 0 for the data themselves (NumPy's default), 1 to judge by a sample (PyTorch's).
    Integers give float32; float16 and bfloat16 are computed in float32.
    """
    x = shaped(x)
    dtype = as_dtype(x.dtype) if is_float(as_dtype(x.dtype)) else "float32"
    axes = axes_of(axis, len(x.shape))
    wide = _as(x, _wide(dtype))
    apart = o.sub(wide, reduce_mean(wide, axis=axes, keepdims=True))
    total = reduce_sum(o.square(apart), axis=axes, keepdims=keepdims)
    return _as(_divided(total, product(x.shape[a] for a in axes) - correction), dtype)


def std(x: Any, *, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Any:
    """The square root of `variance`, whose arguments it takes. Gradient 0 where it is 0."""
    return _safe_sqrt(variance(x, axis=axis, keepdims=keepdims, correction=correction))


def norm(x: Any, *, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Any:
    """The vector norm of order 1, 2 (Euclidean) or inf, over one axis or several.

    The gradient of the Euclidean norm at 0 is 0. float16 and bfloat16 are computed in float32.
    Raises ArgumentError for another order, DTypeError for integers.
    """
    x = shaped(x)
    need_float(spec_of(x))
    wide = _as(x, _wide(as_dtype(x.dtype)))
    if ord == 1:
        out = reduce_sum(o.abs(wide), axis=axis, keepdims=keepdims)
    elif ord == 2:
        out = _safe_sqrt(reduce_sum(o.square(wide), axis=axis, keepdims=keepdims))
    elif ord == math.inf:
        out = reduce_max(o.abs(wide), axis=axis, keepdims=keepdims)
    else:
        raise ArgumentError("unknown order of a norm", expected="1, 2 or inf", got=repr(ord))
    return _as(out, as_dtype(x.dtype))


def _as(x: Any, dtype: str) -> Any:
    return x if as_dtype(x.dtype) == dtype else o.cast(x, dtype=dtype)


def _safe_sqrt(x: Any) -> Any:
    """sqrt with gradient 0 at 0, where the derivative is infinite."""
    zero = o.equal(x, 0.0)
    return o.where(zero, 0.0, o.sqrt(o.where(zero, 1.0, x)))
