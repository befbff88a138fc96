"""Products and distances of rows."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import pullback
from noria.convert.caffe2.handlers import caffe2_op
from noria.ir.opdef import vocabulary as o


@caffe2_op("DotProduct")
def dot_product(op, x, y):
    """Dot product of each row with the same row: [N]."""
    return over_rows(o.mul(x, y))


@caffe2_op("DotProductGradient")
def dot_product_gradient(op, x, y, dz):
    return pullback(lambda a, b: over_rows(o.mul(a, b)), [x, y], [dz], [0, 1])


def over_rows(x: Any) -> Any:
    axes = tuple(range(1, len(x.shape)))
    return o.reduce_sum(x, axis=axes) if axes else x


@caffe2_op("DotProductWithPadding")
def dot_product_with_padding(op, x, y):
    """Dot product of rows of different widths, the narrower filled up or repeated."""
    wide, narrow = (x, y) if x.shape[1] >= y.shape[1] else (y, x)
    missing = wide.shape[1] - narrow.shape[1]
    if op.attr("replicate", False):
        narrow = o.tile(narrow, repeats=(1, wide.shape[1] // narrow.shape[1]))
    elif missing:
        pads = ((0, 0), (0, missing))
        narrow = o.pad(narrow, pads=pads, value=op.attr("pad_value", 0.0))
    return over_rows(o.mul(wide, narrow))


@caffe2_op("SquaredL2Distance")
def squared_l2_distance(op, x, y):
    return o.mul(over_rows(o.square(o.sub(x, y))), 0.5)


@caffe2_op("SquaredL2DistanceGradient")
def squared_l2_distance_gradient(op, x, y, d):
    fn = lambda a, b: o.mul(over_rows(o.square(o.sub(a, b))), 0.5)  # noqa: E731
    return pullback(fn, [x, y], [d], [0, 1])


@caffe2_op("L1Distance")
def l1_distance(op, x, y):
    return over_rows(o.abs(o.sub(x, y)))


@caffe2_op("L1DistanceGradient")
def l1_distance_gradient(op, x, y, d):
    return pullback(lambda a, b: over_rows(o.abs(o.sub(a, b))), [x, y], [d], [0, 1])


@caffe2_op("CosineSimilarity")
def cosine_similarity(op, x, y):
    return _cosine(x, y)


def _cosine(x: Any, y: Any) -> Any:
    tiny = 1e-12
    lengths = [o.maximum(over_rows(o.square(v)), tiny) for v in (x, y)]
    return o.div(over_rows(o.mul(x, y)), o.sqrt(o.mul(*lengths)))


@caffe2_op("CosineSimilarityGradient")
def cosine_similarity_gradient(op, x, y, d):
    return pullback(_cosine, [x, y], [d], [0, 1])


@caffe2_op("DotProductWithPaddingGradient")
def dot_product_with_padding_gradient(op, x, y, dz):
    fn = lambda a, b: dot_product_with_padding(op, a, b)  # noqa: E731
    return pullback(fn, [x, y], [dz], [0, 1])


@caffe2_op("ReduceTailSum")
def reduce_tail_sum(op, x):
    """Sum over everything but the first axis: [N]."""
    return over_rows(x)
