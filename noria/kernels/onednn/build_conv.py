"""Builders of convolutions and their transposes, 1-d to 3-d, grouped, forward and backward.

Common to all of them:
  src, dst    [N, C, spatial...]
  weights     [O, I, kernel...], or [G, O/G, I/G, kernel...] for G groups; depthwise is G = C
  transposed  the transpose of the convolution from dst's shape to src's (oneDNN's deconvolution).
              I and O are still channels of src and dst: a PyTorch ConvTranspose weight
              [I, O, kernel...] is the same bytes with the first two strides exchanged.

All raise ArgumentError for a window of the wrong rank, EngineError for what oneDNN refuses.
"""

from __future__ import annotations

from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.enums import (
    ARG,
    CONVOLUTION_DIRECT,
    DECONVOLUTION_DIRECT,
    FORWARD_INFERENCE,
    FORWARD_TRAINING,
)
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive, create, remembered
from noria.kernels.onednn.window import Window


def convolution_forward(
    src: MemDesc,
    weights: MemDesc,
    bias: MemDesc | None,
    dst: MemDesc,
    window: Window,
    attr: Attr = PLAIN,
    *,
    training: bool = False,
    transposed: bool = False,
) -> Primitive:
    """dst = src correlated with weights, + bias[O]."""
    return remembered(_forward, src, weights, bias, dst, window, attr, training, transposed)


def _forward(
    src: MemDesc,
    weights: MemDesc,
    bias: MemDesc | None,
    dst: MemDesc,
    window: Window,
    attr: Attr,
    training: bool,
    transposed: bool,
) -> Primitive:
    window.check(src)
    name, algorithm = _family(transposed)
    prop = FORWARD_TRAINING if training else FORWARD_INFERENCE
    given = (library().engine, prop, algorithm, src, weights, bias, dst, *window.arrays)
    args = (ARG.SRC, ARG.WEIGHTS, ARG.BIAS, ARG.DST)
    return create(name, f"{name}_forward", given, args, attr=attr, detail=str(window))


def convolution_backward_data(
    diff_src: MemDesc,
    weights: MemDesc,
    diff_dst: MemDesc,
    window: Window,
    attr: Attr = PLAIN,
    *,
    transposed: bool = False,
) -> Primitive:
    """diff_src, the gradient of convolution_forward by src, from diff_dst and weights."""
    return remembered(_backward_data, diff_src, weights, diff_dst, window, attr, transposed)


def _backward_data(
    diff_src: MemDesc,
    weights: MemDesc,
    diff_dst: MemDesc,
    window: Window,
    attr: Attr,
    transposed: bool,
) -> Primitive:
    window.check(diff_src)
    family, algorithm = _family(transposed)
    hint = None  # the CPU engine does not look at it
    arrays = (*window.arrays, hint)
    given = (library().engine, algorithm, diff_src, weights, diff_dst, *arrays)
    args = (ARG.DIFF_DST, ARG.WEIGHTS, ARG.DIFF_SRC)
    name = f"{family}_backward_data"
    return create(name, name, given, args, attr=attr, detail=str(window))


def convolution_backward_weights(
    src: MemDesc,
    diff_weights: MemDesc,
    diff_bias: MemDesc | None,
    diff_dst: MemDesc,
    window: Window,
    attr: Attr = PLAIN,
    *,
    transposed: bool = False,
) -> Primitive:
    """diff_weights and, where given, diff_bias: the gradients of convolution_forward by them."""
    args = (src, diff_weights, diff_bias, diff_dst, window, attr, transposed)
    return remembered(_backward_weights, *args)


def _backward_weights(
    src: MemDesc,
    diff_weights: MemDesc,
    diff_bias: MemDesc | None,
    diff_dst: MemDesc,
    window: Window,
    attr: Attr,
    transposed: bool,
) -> Primitive:
    window.check(src)
    family, algorithm = _family(transposed)
    hint = None
    arrays = (*window.arrays, hint)
    given = (library().engine, algorithm, src, diff_weights, diff_bias, diff_dst, *arrays)
    args = (ARG.SRC, ARG.DIFF_DST, ARG.DIFF_WEIGHTS, ARG.DIFF_BIAS)
    name = f"{family}_backward_weights"
    return create(name, name, given, args, attr=attr, detail=str(window))


def _family(transposed: bool) -> tuple[str, int]:
    if transposed:
        return "deconvolution", DECONVOLUTION_DIRECT
    return "convolution", CONVOLUTION_DIRECT
