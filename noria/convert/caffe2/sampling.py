"""Random choices by weight."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.handlers import caffe2_op
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.random import uniform


def _places(cumulated: Any, at: Any) -> Any:
    """How many cumulated weights lie below each number, at most all but one."""
    below = o.reduce_sum(o.cast(o.less(cumulated, at), dtype="int64"), axis=-1)
    last = o.sub(o.dim_value(dim=cumulated.shape[-1]), 1)
    return o.minimum(below, last)


@caffe2_op("WeightedSample")
def weighted_sample(op, weights, values=None):
    """A column of each row of weights [N, C], by weight: int32 [N, 1]; and its value."""
    if len(weights.shape) != 2:
        raise ShapeError("a matrix of weights is needed", got=str(weights))
    total = o.reduce_sum(weights, axis=1, keepdims=True)
    at = o.mul(uniform(shape=(weights.shape[0], 1)), total)
    chosen = o.unsqueeze(_places(o.cumsum(weights, axis=1), at), axis=1)
    places = o.cast(chosen, dtype="int32")
    return places if values is None else (places, o.take_along_axis(values, chosen, axis=1))


@caffe2_op("WeightedMultiSampling")
def weighted_multi_sampling(op, cumulated, like=None):
    """Places chosen by weights that are cumulated already: int32 [num_samples] or as `like`."""
    if len(cumulated.shape) != 1:
        raise ShapeError("cumulated weights are a vector", got=str(cumulated))
    if (like is None) != op.has("num_samples"):
        raise ArgumentError("either num_samples or a tensor tells the shape", got=op.specs())
    shape = (op.attr("num_samples", 0),) if like is None else tuple(like.shape)
    count = cumulated.shape[0]
    end = o.slice(cumulated, axes=(0,), starts=(count - 1,), stops=(count,))
    at = o.unsqueeze(o.mul(uniform(shape=shape), o.reshape(end, shape=())), axis=len(shape))
    return o.cast(_places(cumulated, at), dtype="int32")
