"""Taking and writing elements by position, and positions found in data."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.math import dtype_name, is_text
from noria.convert.onnx.shape import sizes_of
from noria.core.dims import Dim, product
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of

# ---- taking ------------------------------------------------------------------------------------


@onnx_op("Gather")
def gather(node: Node, x: Any, ids: Any) -> Any:
    axis = node.attr("axis", 0)
    if is_text(x):
        return np.asarray(np.take(x, node.const(ids, "the ids"), axis=axis), object)
    return o.gather(x, ids, axis=axis)


@onnx_op("GatherElements")
def gather_elements(node: Node, x: Any, ids: Any) -> Any:
    """ids may be smaller than x along the other axes."""
    axis = axis_of(node.attr("axis", 0), len(sizes_of(x)))
    for i, (size, limit) in enumerate(zip(sizes_of(ids), sizes_of(x), strict=True)):
        if i != axis and size != limit:
            x = o.slice(x, axes=(i,), starts=(0,), stops=(size,))
    return o.take_along_axis(x, ids, axis=axis)


@onnx_op("GatherND")
def gather_nd(node: Node, x: Any, ids: Any) -> Any:
    batch = node.attr("batch_dims", 0)
    if not batch:
        return o.gather_nd(x, ids)
    places = o.concat(*_coordinates(sizes_of(ids)[:-1], batch), o.cast(ids, dtype="int64"), axis=-1)
    return o.gather_nd(x, places)


def _coordinates(shape: Any, count: int) -> list[Any]:
    """The first `count` coordinates of every place of an array, each [*shape, 1]."""
    made = []
    for axis in range(count):
        along = [1] * (len(shape) + 1)
        along[axis] = shape[axis]
        line = o.reshape(o.arange(stop=shape[axis]), shape=tuple(along))
        made.append(o.broadcast_to(line, shape=(*shape, 1)))
    return made


@onnx_op("Compress")
def compress(node: Node, x: Any, condition: Any) -> Any:
    """Slices where the condition holds; it may be shorter than the axis."""
    axis = node.attr("axis")
    if axis is None:
        x, axis = o.reshape(x, shape=(product(sizes_of(x)),)), 0
    found = o.nonzero(condition, size=node.symbol("kept"))
    return o.gather(x, o.squeeze(found, axis=1), axis=axis)


# ---- writing -----------------------------------------------------------------------------------


@onnx_op("Scatter", "ScatterElements")
def scatter_elements(node: Node, x: Any, ids: Any, updates: Any) -> Any:
    how = node.attr("reduction", "none")
    return o.scatter_elements(x, ids, updates, axis=node.attr("axis", 0), reduction=how)


@onnx_op("ScatterND")
def scatter_nd(node: Node, x: Any, ids: Any, updates: Any) -> Any:
    return o.scatter_nd(x, ids, updates, reduction=node.attr("reduction", "none"))


@onnx_op("TensorScatter")
def tensor_scatter(node: Node, past: Any, update: Any, at: Any = None) -> Any:
    """Each example's update written into its cache from its own place on; "circular": around."""
    shape = sizes_of(past)
    axis = axis_of(node.attr("axis", -2), len(shape))
    if axis == 0:
        raise FormatError("the batch is no axis to write along", where=str(node))
    mode = node.attr("mode", "linear")
    steps = o.arange(stop=sizes_of(update)[axis])
    if at is not None:
        steps = o.add(o.unsqueeze(o.cast(at, dtype="int64"), axis=1), steps)
        steps = o.reshape(steps, shape=(shape[0], *_along(shape, axis, sizes_of(update)[axis])))
    else:
        steps = o.reshape(steps, shape=(1, *_along(shape, axis, sizes_of(update)[axis])))
    if mode == "circular":
        total = shape[axis]
        steps = o.remainder(steps, o.dim_value(dim=total) if isinstance(total, Dim) else total)
    ids = o.broadcast_to(steps, shape=sizes_of(update))
    return o.scatter_elements(past, ids, update, axis=axis)


def _along(shape: Any, axis: int, size: Any) -> tuple[Any, ...]:
    """[size] along an axis, without the first axis, 1 elsewhere."""
    return tuple(size if i == axis else 1 for i in range(1, len(shape)))


# ---- positions ---------------------------------------------------------------------------------


@onnx_op("NonZero")
def non_zero(node: Node, x: Any) -> Any:
    found = o.nonzero(x, size=node.symbol("nonzero"))
    return o.transpose(found, perm=(1, 0))


@onnx_op("Unique")
def unique(node: Node, x: Any) -> Any:
    return o.unique(
        x,
        size=node.symbol("unique"),
        axis=node.attr("axis"),
        sorted=bool(node.attr("sorted", 1)),
    )


@onnx_op("OneHot")
def one_hot(node: Node, ids: Any, depth: Any, values: Any) -> Any:
    """Negative ids count from the end; what is outside is off everywhere."""
    (size,) = node.sizes(depth, "the depth")
    axis = node.attr("axis", -1)
    whole = o.cast(ids, dtype="int64")
    total = o.dim_value(dim=size) if isinstance(size, Dim) else size
    places = o.where(o.less(whole, 0), o.add(whole, total), whole)
    hot = o.one_hot(places, depth=size, axis=axis, dtype="bool")
    off, on = (o.squeeze(v, axis=0) for v in _halves(values))
    return o.where(hot, on, off)


def _halves(pair: Any) -> Any:
    return o.split(pair, num=2, axis=0)


@onnx_op("ReverseSequence")
def reverse_sequence(node: Node, x: Any, lengths: Any) -> Any:
    """The first lengths[i] elements of example i the other way round."""
    batch, time = node.attr("batch_axis", 1), node.attr("time_axis", 0)
    shape = sizes_of(x)
    steps = o.reshape(o.arange(stop=shape[time]), shape=_only(shape, time))
    ends = o.reshape(o.cast(lengths, dtype="int64"), shape=_only(shape, batch))
    turned = o.sub(o.sub(ends, 1), steps)
    places = o.where(o.less(steps, ends), turned, steps)
    return o.take_along_axis(x, o.broadcast_to(places, shape=shape), axis=time)


def _only(shape: Any, axis: int) -> tuple[Any, ...]:
    at = axis % len(shape)
    return tuple(d if i == at else 1 for i, d in enumerate(shape))


@onnx_op("Trilu")
def trilu(node: Node, x: Any, k: Any = None) -> Any:
    """The upper or lower triangle of the last two axes, zeros elsewhere."""
    shift = 0 if k is None else int(scalar(node.const(k, "k")))
    rows, columns = sizes_of(x)[-2:]
    across = o.sub(o.arange(stop=columns), o.unsqueeze(o.arange(stop=rows), axis=1))
    if node.attr("upper", 1):
        kept = o.greater_equal(across, shift)
    else:
        kept = o.less_equal(across, shift)
    return o.where(kept, x, o.cast(0, dtype=dtype_name(x)))
