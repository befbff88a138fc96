"""Reductions: over given axes, over leading or trailing ones, over everything."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import axis_arg, numel, pullback, scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.reduce import norm

# ---- over axes ---------------------------------------------------------------------------------


def _reduced(kind: str, x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    if not axes:
        return o.identity(x) if kind in ("Sum", "Mean", "Max", "Min") else o.abs(x)
    if kind == "L1":
        return o.reduce_sum(o.abs(x), axis=axes, keepdims=keep)
    if kind == "L2":
        return norm(x, ord=2, axis=axes, keepdims=keep)
    ops = {"Sum": o.reduce_sum, "Mean": o.reduce_mean, "Max": o.reduce_max, "Min": o.reduce_min}
    return ops[kind](x, axis=axes, keepdims=keep)


def _axes(op: Node, x: Any) -> tuple[int, ...]:
    return tuple(op.ints("axes", range(len(x.shape))))


@caffe2_op(*[f"Reduce{kind}" for kind in ("Sum", "Mean", "Max", "Min", "L1", "L2")])
def reduce_(op, x):
    kind = op.type.removeprefix("Reduce")
    out = _reduced(kind, x, _axes(op, x), op.attr("keepdims", True))
    return o.cast(out, dtype=x.dtype)


@caffe2_op(*[f"Reduce{kind}Gradient" for kind in ("Sum", "Mean", "Max", "Min", "L1", "L2")])
def reduce_gradient(op, dy, x, y=None):
    kind = op.type.removeprefix("Reduce").removesuffix("Gradient")
    if kind in ("Max", "Min"):  # every extreme gets the whole gradient
        axes = _axes(op, x)
        best = _reduced(kind, x, axes, True)
        return o.where(o.equal(x, best), o.reshape(dy, shape=best.shape), 0.0)
    return pullback(lambda v: _reduced(kind, v, _axes(op, v), True), [x], [dy], [0])[0]


# ---- over leading or trailing axes -------------------------------------------------------------


@caffe2_op(*[f"Reduce{end}{kind}" for end in ("Front", "Back") for kind in ("Sum", "Mean", "Max")])
def reduce_end(op, x, lengths=None):
    """Over the first or the last `num_reduce_dim` axes; lengths: only so many of each count."""
    kind = "Mean" if op.type.endswith("Mean") else op.type[-3:]
    front, count = "Front" in op.type, op.attr("num_reduce_dim", 1)
    return _ends(x, lengths, front, kind, _at_most(count, x))


def _at_most(count: int, x: Any) -> int:
    if not 0 <= count <= len(x.shape):
        raise ArgumentError("num_reduce_dim is out of range", expected=str(x), got=str(count))
    return count


def _ends(x: Any, lengths: Any, front: bool, kind: str, count: int) -> Any:
    cut = count if front else len(x.shape) - count
    first, rest = x.shape[:cut], x.shape[cut:]
    kept = rest if front else first
    if lengths is None and count == 0:
        return o.identity(x)
    axis = 0 if front else 1
    rows = o.reshape(x, shape=(product(first), product(rest)))
    if lengths is None:
        return o.reshape(_reduced(kind, rows, (axis,), False), shape=kept)
    inside = _inside(lengths, rows, axis)
    if kind == "Max":
        lowest = o.where(inside, rows, float("-inf"))
        out = o.reduce_max(lowest, axis=axis)
        return o.reshape(out, shape=kept)
    total = o.reduce_sum(o.where(inside, rows, 0.0), axis=axis)
    if kind == "Mean":
        divisor = o.cast(lengths, dtype=x.dtype)
        total = o.where(o.equal(lengths, 0), 0.0, o.div(total, o.maximum(divisor, 1.0)))
    return o.reshape(total, shape=kept)


def _inside(lengths: Any, rows: Any, axis: int) -> Any:
    """Which elements of a matrix count: the first lengths[i] along an axis."""
    if len(lengths.shape) != 1:
        raise ShapeError("lengths must be a vector", got=str(lengths))
    places = o.arange(stop=rows.shape[axis])
    lengths = o.cast(lengths, dtype="int64")
    if axis == 0:
        return o.less(o.unsqueeze(places, axis=1), o.unsqueeze(lengths, axis=0))
    return o.less(o.unsqueeze(places, axis=0), o.unsqueeze(lengths, axis=1))


@caffe2_op(*[f"Reduce{e}{k}Gradient" for e in ("Front", "Back") for k in ("Sum", "Mean")])
def reduce_end_gradient(op, dy, shape_or_x, lengths=None):
    """The second input is x, or its shape as numbers."""
    kind = "Mean" if "Mean" in op.type else "Sum"
    front, count = "Front" in op.type, op.attr("num_reduce_dim", 1)
    like = shape_or_x
    if like.dtype in ("int32", "int64"):
        sizes = tuple(op.const(like, "the shape").ravel().tolist())
        like = o.fill(shape=sizes, value=0.0, dtype=dy.dtype)
    return pullback(lambda v: _ends(v, lengths, front, kind, count), [like], [dy], [0])[0]


@caffe2_op("ReduceFrontMaxGradient", "ReduceBackMaxGradient")
def reduce_end_max_gradient(op, dy, x, y, lengths=None):
    front, count = "Front" in op.type, op.attr("num_reduce_dim", 1)
    cut = count if front else len(x.shape) - count
    shape = (product(x.shape[:cut]), product(x.shape[cut:]))
    rows, axis = o.reshape(x, shape=shape), 0 if front else 1
    best, g = (o.unsqueeze(o.reshape(v, shape=(numel(v),)), axis=axis) for v in (y, dy))
    hit = o.equal(rows, best)
    if lengths is not None:
        hit = o.logical_and(hit, _inside(lengths, rows, axis))
    return o.reshape(o.where(hit, g, 0.0), shape=x.shape)


@caffe2_op("RowwiseMax")
def rowwise_max(op, x):
    """[B, M, N] -> [B, M]"""
    return o.reduce_max(x, axis=2)


@caffe2_op("ColwiseMax")
def colwise_max(op, x):
    """[B, M, N] -> [B, N]"""
    return o.reduce_max(x, axis=1)


@caffe2_op("RowwiseMaxGradient", "ColwiseMaxGradient")
def matrix_max_gradient(op, x, y, dy):
    axis = 2 if op.type.startswith("Row") else 1
    hit = o.equal(x, o.unsqueeze(y, axis=axis))
    return o.where(hit, o.unsqueeze(dy, axis=axis), 0.0)


# ---- over everything ---------------------------------------------------------------------------


@caffe2_op("SumElements")
def sum_elements(op, x):
    return o.reduce_mean(x) if op.attr("average", False) else o.reduce_sum(x)


@caffe2_op("SumElementsGradient")
def sum_elements_gradient(op, x, dy):
    g = o.broadcast_to(scalar(dy), shape=x.shape)
    return (
        o.div(g, o.cast(o.dim_value(dim=numel(x)), dtype=g.dtype))
        if op.attr("average", False)
        else g
    )


@caffe2_op("SumElementsInt")
def sum_elements_int(op, x):
    return o.cast(o.reduce_sum(x), dtype="int32")


@caffe2_op("SumSqrElements")
def sum_sqr_elements(op, x):
    squares = o.square(x)
    return o.reduce_mean(squares) if op.attr("average", False) else o.reduce_sum(squares)


@caffe2_op("AveragedLoss")
def averaged_loss(op, x):
    return _mean(x)


def _mean(x: Any) -> Any:
    count = o.cast(o.dim_value(dim=numel(x)), dtype=x.dtype)
    return o.div(o.reduce_sum(x), o.maximum(count, 1.0))


@caffe2_op("AveragedLossGradient")
def averaged_loss_gradient(op, x, dy):
    return pullback(_mean, [x], [scalar(dy)], [0])[0]


@caffe2_op("LpNorm")
def lp_norm(op, x):
    """Sum of |x| or of x^2, by the argument p; [1]."""
    p = op.attr("p", 2)
    if p not in (1, 2):
        raise ArgumentError("p is 1 or 2", got=str(p))
    return _lp(x, p, op.attr("average", False))


def _lp(x: Any, p: int, average: bool) -> Any:
    values = o.abs(x) if p == 1 else o.square(x)
    total = o.reduce_mean(values) if average else o.reduce_sum(values)
    return o.reshape(total, shape=(1,))


@caffe2_op("LpNormGradient")
def lp_norm_gradient(op, x, dy):
    p, average = op.attr("p", 2), op.attr("average", False)
    return pullback(lambda v: _lp(v, p, average), [x], [dy], [0])[0]


@caffe2_op("Moments")
def moments(op, x):
    """Mean and variance over axes."""
    axes, keep = _axes(op, x), bool(op.attr("keepdims", True))
    if not axes:
        return o.identity(x), o.fill(shape=x.shape, value=0, dtype=x.dtype)
    centre = o.reduce_mean(x, axis=axes, keepdims=True)
    mean = o.reduce_mean(x, axis=axes, keepdims=keep)
    return mean, o.reduce_mean(o.square(o.sub(x, centre)), axis=axes, keepdims=keep)


@caffe2_op("MomentsGradient")
def moments_gradient(op, dmean, dvariance, x, mean):
    """The mean counts as a number of its own, as it does in the variance."""
    axes = _axes(op, x)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    dmean, dvariance, mean = (o.reshape(v, shape=kept) for v in (dmean, dvariance, mean))
    count = o.cast(o.dim_value(dim=product(x.shape[i] for i in axes)), dtype=x.dtype)
    along = o.mul(o.mul(o.sub(x, mean), 2.0), dvariance)
    return o.div(o.add(along, dmean), count)


@caffe2_op("ArgMax", "ArgMin")
def arg_extreme(op, x):
    axis = axis_arg(op, x, -1)
    fn = o.argmax if op.type == "ArgMax" else o.argmin
    return fn(x, axis=axis, keepdims=bool(op.attr("keepdims", 1)))
