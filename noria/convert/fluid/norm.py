"""Normalisation."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.conv import activated, channels_first, channels_last
from noria.convert.fluid.handlers import Op, fluid_op
from noria.convert.fluid.math import number
from noria.convert.fluid.shape import bounded
from noria.core.dims import product
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like


def _moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """(mean, variance), with the axes kept."""
    mean = o.reduce_mean(x, axis=axes, keepdims=True)
    return mean, o.reduce_mean(o.square(o.sub(x, mean)), axis=axes, keepdims=True)


@fluid_op("batch_norm", "sync_batch_norm", "inplace_abn")
def batch_norm(op: Op) -> dict[str, Any]:
    """Running statistics are momentum * old + (1 - momentum) * those of the batch, whose variance
    is that of the data (not the estimate from a sample)."""
    x, mean, var = op.input("X"), op.input("Mean"), op.input("Variance")
    last = len(x.shape) > 2 and str(op.attr("data_layout", "NCHW")) in ("NHWC", "NDHWC")
    axis = len(x.shape) - 1 if last else 1
    how = {"epsilon": float(op.attr("epsilon", 1e-5)), "axis": axis}
    fixed = op.attr("is_test", False) and not op.attr("trainable_statistics", False)
    if fixed or op.attr("use_global_stats", False):
        y = o.batch_norm(x, op.input("Scale"), op.input("Bias"), mean, var, **how)
        return {"Y": _activated(op, y)}
    return _trained(op, x, mean, var, how)


def _trained(op: Op, x: Any, mean: Any, var: Any, how: dict[str, Any]) -> dict[str, Any]:
    y, batch_mean, inv_std, *_ = o.batch_norm(
        x, op.input("Scale"), op.input("Bias"), mean, var, training=True, **how
    )
    others = tuple(i for i in range(len(x.shape)) if i != how["axis"])
    moved = number(op, "MomentumTensor", "momentum", 0.9)
    rest = 1.0 - moved if isinstance(moved, (int, float)) else o.sub(1.0, moved)
    _, batch_var = _moments(o.stop_gradient(x), others)
    batch_var = o.reshape(batch_var, shape=var.shape)
    news = [
        o.add(o.mul(old, moved), o.mul(cast_like(o.stop_gradient(new), old), rest))
        for old, new in ((mean, batch_mean), (var, batch_var))
    ]
    return {
        "Y": _activated(op, y),
        "MeanOut": news[0],
        "VarianceOut": news[1],
        "SavedMean": batch_mean,
        "SavedVariance": inv_std,
    }


def _activated(op: Op, y: Any) -> Any:
    name = op.attr("activation", "") if op.type == "inplace_abn" else ""
    name = "relu" if op.attr("fuse_with_relu", False) else name
    return y if name in ("", "identity") else activated(y, name, op)


@fluid_op("layer_norm")
def layer_norm(op: Op) -> dict[str, Any]:
    x, scale, bias = op.input("X"), op.get("Scale"), op.get("Bias")
    axis = op.attr("begin_norm_axis", 1)
    shape = x.shape[axis:]
    scale, bias = (None if v is None else o.reshape(v, shape=shape) for v in (scale, bias))
    axes = tuple(range(axis, len(x.shape)))
    out = o.layer_norm(x, scale, bias, axes=axes, epsilon=float(op.attr("epsilon", 1e-5)))
    y = out[0] if isinstance(out, tuple) else out
    asked = {"Mean", "Variance"} & op.outputs.keys()
    if not asked:
        return {"Y": y}
    rows = (product(x.shape[:axis]),)
    mean, var = (o.reshape(v, shape=rows) for v in _moments(x, axes))
    return {"Y": y, "Mean": mean, "Variance": var}


@fluid_op("instance_norm")
def instance_norm(op: Op) -> dict[str, Any]:
    x, epsilon = op.input("X"), float(op.attr("epsilon", 1e-5))
    axes = tuple(range(2, len(x.shape)))
    mean, var = _moments(x, axes)
    inv_std = o.rsqrt(o.add(var, epsilon))
    y = o.mul(o.sub(x, mean), inv_std)
    rows = (x.shape[0] * x.shape[1],)
    saved = {
        "SavedMean": o.reshape(mean, shape=rows),
        "SavedVariance": o.reshape(inv_std, shape=rows),
    }
    return {"Y": _per_channel(op, y), **saved}


def _per_channel(op: Op, y: Any) -> Any:
    """y times Scale plus Bias, each where it is given, of channels along axis 1."""
    shape = (1, y.shape[1], *(1,) * (len(y.shape) - 2))
    scale, bias = op.get("Scale"), op.get("Bias")
    y = y if scale is None else o.mul(y, o.reshape(scale, shape=shape))
    return y if bias is None else o.add(y, o.reshape(bias, shape=shape))


@fluid_op("group_norm")
def group_norm(op: Op) -> dict[str, Any]:
    x, last = channels_first(op, op.input("X"), "data_layout")
    groups, epsilon = op.need_attr("groups"), float(op.attr("epsilon", 1e-5))
    n, c, *sizes = x.shape
    if isinstance(c, int) and not (0 < groups <= c and c % groups == 0):
        raise ShapeError("channels must fall into equal groups", got=f"{c} and {groups}")
    grouped = o.reshape(x, shape=(n, groups, (c // groups) * product(sizes)))
    mean, var = _moments(grouped, (2,))
    normal = o.mul(o.sub(grouped, mean), o.rsqrt(o.add(var, epsilon)))
    y = _per_channel(op, o.reshape(normal, shape=x.shape))
    stats = {"Mean": o.squeeze(mean, axis=2), "Variance": o.squeeze(var, axis=2)}
    return {"Y": channels_last(y, last), **stats}


@fluid_op("data_norm")
def data_norm(op: Op) -> dict[str, Any]:
    """By running sums of the data. A slot whose first number, the shows, is 0 gives zeros."""
    x, slot = op.input("X"), op.attr("slot_dim", -1)
    size, total, squares = (op.input(n) for n in ("BatchSize", "BatchSum", "BatchSquareSum"))
    means, scales = o.div(total, size), o.sqrt(o.div(size, squares))
    y = o.mul(o.sub(x, means), scales)
    if slot > 0:
        slots = o.reshape(x, shape=(x.shape[0], x.shape[1] // slot, slot))
        shows = o.slice(slots, axes=(2,), starts=(0,), stops=(1,))
        seen = o.broadcast_to(o.greater_equal(o.abs(shows), 1e-7), shape=slots.shape)
        y = o.where(o.reshape(seen, shape=x.shape), y, 0.0)
    if op.attr("enable_scale_and_shift", False):
        y = o.add(o.mul(y, op.input("scale_w")), op.input("bias"))
    return {"Y": y, "Means": means, "Scales": scales}


@fluid_op("lrn")
def lrn(op: Op) -> dict[str, Any]:
    """x / (k + alpha * sum of squares of n neighbouring channels) ^ beta.  (Krizhevsky, 2012)"""
    x, last = channels_first(op, op.input("X"))
    n = bounded(op.attr("n", 5), 1, 1024, "a window of channels")
    front = (n - 1) // 2
    rank = len(x.shape)
    pads = tuple((front, n - 1 - front) if i == 1 else (0, 0) for i in range(rank))
    around = o.pad(o.square(x), pads=pads)
    total: Any = None
    for k in range(n):
        part = o.slice(around, axes=(1,), starts=(k,), stops=(k + x.shape[1],))
        total = part if total is None else o.add(total, part)
    middle = o.add(o.mul(total, float(op.attr("alpha", 1e-4))), float(op.attr("k", 2.0)))
    out = o.mul(x, o.pow(middle, -float(op.attr("beta", 0.75))))
    return {"Out": channels_last(out, last), "MidOut": channels_last(middle, last)}


@fluid_op("spectral_norm")
def spectral_norm(op: Op) -> dict[str, Any]:
    """A weight over its largest singular value, by power iteration.  (Miyato et al., 2018)"""
    weight, u, v = op.input("Weight"), op.input("U"), op.input("V")
    axis, eps = op.attr("dim", 0), float(op.attr("eps", 1e-12))
    order = (axis, *(i for i in range(len(weight.shape)) if i != axis))
    rows = weight.shape[axis]
    moved = o.transpose(weight, perm=order) if axis else weight
    matrix = o.reshape(moved, shape=(rows, -1))
    still = o.stop_gradient(matrix)
    left, right = o.reshape(u, shape=(-1, 1)), o.reshape(v, shape=(-1, 1))
    for _ in range(bounded(op.attr("power_iters", 1), 0, 1000, "a number of iterations")):
        right = _unit(o.matmul(still, left, transpose_x=True), eps)
        left = _unit(o.matmul(still, right), eps)
    left, right = o.stop_gradient(left), o.stop_gradient(right)
    sigma = o.reduce_sum(o.mul(left, o.matmul(matrix, right)))
    return {"Out": o.div(weight, sigma)}


def _unit(x: Any, eps: float) -> Any:
    return o.div(x, o.add(o.sqrt(o.reduce_sum(o.square(x))), eps))


@fluid_op("affine_channel")
def affine_channel(op: Op) -> dict[str, Any]:
    x, last = channels_first(op, op.input("X"), "data_layout")
    return {"Out": channels_last(_per_channel(op, x), last)}
