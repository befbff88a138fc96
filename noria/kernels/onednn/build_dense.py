"""Builders of matrix products: matmul and inner product.

Each builder of this package returns the remembered Primitive for its arguments. Descriptors may be
`MemDesc.any`: the layout oneDNN prefers is then in `Primitive.descs`. All raise EngineError where
oneDNN refuses the combination.
"""

from __future__ import annotations

from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_dense
from noria.kernels.onednn.enums import ARG, FORWARD_INFERENCE, FORWARD_TRAINING
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive, create, remembered


def matmul(
    src: MemDesc,
    weights: MemDesc,
    dst: MemDesc,
    bias: MemDesc | None = None,
    attr: Attr = PLAIN,
) -> Primitive:
    """dst[..., m, n] = src[..., m, k] @ weights[..., k, n] + bias.

    All have the same rank, 2 or more; a batch dim of src or weights may be 1 where dst's is not.
    bias broadcasts to dst, each dim dst's or 1. A transposed operand is one with such strides.
    """
    return remembered(_matmul, src, weights, bias, dst, attr)


def _matmul(
    src: MemDesc, weights: MemDesc, bias: MemDesc | None, dst: MemDesc, attr: Attr
) -> Primitive:
    given = (library().engine, src, weights, bias, dst)
    args = (ARG.SRC, ARG.WEIGHTS, ARG.BIAS, ARG.DST)
    primitive = create("matmul", "matmul", given, args, attr=attr)
    return need_dense(primitive, ARG.BIAS) if bias else primitive


def inner_product_forward(
    src: MemDesc,
    weights: MemDesc,
    bias: MemDesc | None,
    dst: MemDesc,
    attr: Attr = PLAIN,
    *,
    training: bool = False,
) -> Primitive:
    """dst[n, o] = bias[o] + sum over all else of src[n, ...] * weights[o, ...]."""
    return remembered(_inner_product, src, weights, bias, dst, attr, training)


def _inner_product(
    src: MemDesc,
    weights: MemDesc,
    bias: MemDesc | None,
    dst: MemDesc,
    attr: Attr,
    training: bool,
) -> Primitive:
    prop = FORWARD_TRAINING if training else FORWARD_INFERENCE
    given = (library().engine, prop, src, weights, bias, dst)
    args = (ARG.SRC, ARG.WEIGHTS, ARG.BIAS, ARG.DST)
    return create("inner_product", "inner_product_forward", given, args, attr=attr)


def inner_product_backward_data(
    diff_src: MemDesc, weights: MemDesc, diff_dst: MemDesc, attr: Attr = PLAIN
) -> Primitive:
    """diff_src[n, ...] = sum over o of diff_dst[n, o] * weights[o, ...]."""
    return remembered(_inner_product_data, diff_src, weights, diff_dst, attr)


def _inner_product_data(
    diff_src: MemDesc, weights: MemDesc, diff_dst: MemDesc, attr: Attr
) -> Primitive:
    given = (library().engine, diff_src, weights, diff_dst, None)  # the CPU engine needs no hint
    args = (ARG.DIFF_DST, ARG.WEIGHTS, ARG.DIFF_SRC)
    name = "inner_product_backward_data"
    return create(name, name, given, args, attr=attr)


def inner_product_backward_weights(
    src: MemDesc,
    diff_weights: MemDesc,
    diff_bias: MemDesc | None,
    diff_dst: MemDesc,
    attr: Attr = PLAIN,
) -> Primitive:
    """diff_weights[o, ...] = sum over n of diff_dst[n, o] * src[n, ...].

    diff_bias[o], where given, = sum over n of diff_dst[n, o].
    """
    return remembered(_inner_product_weights, src, diff_weights, diff_bias, diff_dst, attr)


def _inner_product_weights(
    src: MemDesc,
    diff_weights: MemDesc,
    diff_bias: MemDesc | None,
    diff_dst: MemDesc,
    attr: Attr,
) -> Primitive:
    given = (library().engine, src, diff_weights, diff_bias, diff_dst, None)
    args = (ARG.SRC, ARG.DIFF_DST, ARG.DIFF_WEIGHTS, ARG.DIFF_BIAS)
    name = "inner_product_backward_weights"
    return create(name, name, given, args, attr=attr)
