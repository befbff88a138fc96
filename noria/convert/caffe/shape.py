"""Layers that move numbers, and reductions."""

from __future__ import annotations

import itertools
from typing import Any

from noria.convert.caffe.handlers import Layer, axis_of, caffe_layer, known
from noria.core.dims import product
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value


@caffe_layer("Concat")
def concat(layer: Layer, *xs: Value) -> Any:
    p = layer.param("concat")
    if not xs:
        raise layer.error("nothing to join")
    axis = p.concat_dim if p.HasField("concat_dim") else p.axis
    return o.concat(*xs, axis=axis_of(layer, axis, xs[0]))


@caffe_layer("Slice")
def slice_(layer: Layer, x: Value) -> Any:
    p = layer.param("slice")
    axis = axis_of(layer, p.slice_dim if p.HasField("slice_dim") else p.axis, x)
    count, points = len(layer.tops), [int(n) for n in p.slice_point]
    if count == 1:
        return (o.identity(x),)
    if not points:
        return tuple(o.split(x, num=count, axis=axis))
    size = known(x.shape[axis], layer, "what is sliced")
    ends = [0, *points, size]
    if len(points) != count - 1 or any(a >= b for a, b in itertools.pairwise(ends)):
        raise layer.error("slice points must rise, one fewer than tops", got=str(points))
    sizes = tuple(b - a for a, b in itertools.pairwise(ends))
    return tuple(o.split(x, sizes=sizes, axis=axis))


@caffe_layer("Split")
def split(layer: Layer, x: Value) -> Any:
    """The same blob for each top."""
    return (x,) * len(layer.tops)


@caffe_layer("Flatten")
def flatten(layer: Layer, x: Value) -> Any:
    p = layer.param("flatten")
    return o.flatten(x, start=axis_of(layer, p.axis, x), end=axis_of(layer, p.end_axis, x))


@caffe_layer("Reshape")
def reshape(layer: Layer, x: Value) -> Any:
    """Of `num_axes` axes from `axis` on; 0 keeps a size, -1 stands for what remains."""
    p = layer.param("reshape")
    first = p.axis if p.axis >= 0 else x.ndim + p.axis + 1
    end = x.ndim if p.num_axes == -1 else first + p.num_axes
    if not 0 <= first <= end <= x.ndim:
        raise layer.error("axes are out of range", got=f"{first} to {end} of {list(x.shape)}")
    sizes: list[Any] = [int(n) for n in p.shape.dim]
    for i, n in enumerate(sizes):
        if n == 0:
            if first + i >= x.ndim:
                raise layer.error("there is no size to keep", got=f"axis {i} of {sizes}")
            sizes[i] = x.shape[first + i]
    return o.reshape(x, shape=(*x.shape[:first], *sizes, *x.shape[end:]))


@caffe_layer("Permute")
def permute(layer: Layer, x: Value) -> Any:
    """Axes that are not named follow in their order."""
    named = [int(n) for n in layer.param("permute").order]
    if len(set(named)) != len(named) or any(n >= x.ndim for n in named):
        raise layer.error("no order of axes", got=f"{named} of {list(x.shape)}")
    return o.transpose(x, perm=(*named, *(i for i in range(x.ndim) if i not in named)))


@caffe_layer("ShuffleChannel")
def shuffle_channel(layer: Layer, x: Value) -> Any:
    """Channels of the groups by turns.  (Zhang et al., "ShuffleNet", 2018)"""
    groups = int(layer.param("shuffle_channel").group)
    channels = known(x.shape[1], layer, "channels")
    if groups < 1 or channels % groups:
        raise layer.error("groups must divide the channels", got=f"{groups} of {channels}")
    apart = o.reshape(x, shape=(x.shape[0], groups, channels // groups, *x.shape[2:]))
    order = (0, 2, 1, *range(3, x.ndim + 1))
    return o.reshape(o.transpose(apart, perm=order), shape=x.shape)


@caffe_layer("Crop")
def crop(layer: Layer, x: Value, like: Value) -> Any:
    """The part of x, from `offset` on, that has the sizes of `like` from `axis` on."""
    p = layer.param("crop")
    axis = axis_of(layer, p.axis, x)
    given = [int(n) for n in p.offset] or [0]
    offsets = given * (x.ndim - axis) if len(given) == 1 else given
    if len(offsets) != x.ndim - axis or like.ndim != x.ndim:
        raise layer.error("one offset is needed for each axis", got=str(given))
    axes = tuple(range(axis, x.ndim))
    stops = tuple(f + like.shape[a] for f, a in zip(offsets, axes, strict=True))
    return o.slice(x, axes=axes, starts=tuple(offsets), stops=stops)


@caffe_layer("Tile")
def tile(layer: Layer, x: Value) -> Any:
    p = layer.param("tile")
    repeats = [1] * x.ndim
    repeats[axis_of(layer, p.axis, x)] = int(p.tiles)
    return o.tile(x, repeats=tuple(repeats))


@caffe_layer("Reduction")
def reduction(layer: Layer, x: Value) -> Any:
    """Of all axes from `axis` on, times a coefficient."""
    p = layer.param("reduction")
    axes = tuple(range(axis_of(layer, p.axis, x), x.ndim))
    kind = p.ReductionOp.Name(p.operation)
    inner = {"ASUM": o.abs, "SUMSQ": o.square}.get(kind, lambda v: v)(x)
    out = (o.reduce_mean if kind == "MEAN" else o.reduce_sum)(inner, axis=axes)
    return out if p.coeff == 1 else o.mul(out, float(p.coeff))


@caffe_layer("ArgMax")
def arg_max(layer: Layer, x: Value) -> Any:
    """The places of the `top_k` largest, as floats; with `out_max_val` the numbers too.

    Along an axis either the numbers or their places; of whole examples [N, 1 or 2, top_k].
    """
    p = layer.param("argmax")
    count = int(p.top_k)
    if p.HasField("axis"):
        axis = axis_of(layer, p.axis, x)
        values, places = o.topk(x, k=count, axis=axis)
        return values if p.out_max_val else o.cast(places, dtype=x.dtype)
    flat = o.reshape(x, shape=(x.shape[0], product(x.shape[1:])))
    values, places = (o.unsqueeze(v, axis=1) for v in o.topk(flat, k=count))
    places = o.cast(places, dtype=x.dtype)
    out = o.concat(places, values, axis=1) if p.out_max_val else places
    behind = tuple(range(3, x.ndim))
    return o.unsqueeze(out, axis=behind) if behind else out
