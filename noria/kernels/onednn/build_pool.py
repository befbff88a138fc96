"""Builders of pooling, 1-d to 3-d, over [N, C, spatial...]."""

from __future__ import annotations

from noria.core.errors import ArgumentError
from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_dense
from noria.kernels.onednn.enums import ARG, FORWARD_INFERENCE, FORWARD_TRAINING, POOLING, lookup
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import Dims, MemDesc, c_dims
from noria.kernels.onednn.primitive import Primitive, create, remembered
from noria.kernels.onednn.window import Window


def pooling_forward(
    kind: str,
    src: MemDesc,
    dst: MemDesc,
    kernel: Dims,
    window: Window,
    attr: Attr = PLAIN,
    *,
    training: bool = False,
) -> Primitive:
    """dst = 'max', 'avg_include' or 'avg_exclude' (padding counted or not) of each window of src.

    With `training`, max also writes WORKSPACE, where each maximum was found.
    """
    return remembered(_forward, kind, src, dst, kernel, window, attr, training)


def _forward(
    kind: str,
    src: MemDesc,
    dst: MemDesc,
    kernel: Dims,
    window: Window,
    attr: Attr,
    training: bool,
) -> Primitive:
    algorithm, arrays = lookup(POOLING, kind, "pooling kind"), _arrays(src, kernel, window)
    prop = FORWARD_TRAINING if training else FORWARD_INFERENCE
    given = (library().engine, prop, algorithm, src, dst, *arrays)
    detail = f"{kind}, kernel={kernel}, {window}"
    args = (ARG.SRC, ARG.DST)
    primitive = create("pooling", "pooling_forward", given, args, attr=attr, detail=detail)
    return need_dense(primitive, *args)


def pooling_backward(
    kind: str, diff_src: MemDesc, diff_dst: MemDesc, kernel: Dims, window: Window
) -> Primitive:
    """diff_src from diff_dst and, for max, the WORKSPACE of the forward primitive.

    The layouts of diff_src and diff_dst must be those src and dst had: the workspace is theirs.
    """
    return remembered(_backward, kind, diff_src, diff_dst, kernel, window)


def _backward(
    kind: str, diff_src: MemDesc, diff_dst: MemDesc, kernel: Dims, window: Window
) -> Primitive:
    algorithm, arrays = lookup(POOLING, kind, "pooling kind"), _arrays(diff_src, kernel, window)
    hint = pooling_forward(kind, diff_src, diff_dst, kernel, window, training=True)
    given = (library().engine, algorithm, diff_src, diff_dst, *arrays, hint.desc)
    args = (ARG.DIFF_DST, ARG.DIFF_SRC)
    detail = f"{kind}, kernel={kernel}, {window}"
    primitive = create("pooling_backward", "pooling_backward", given, args, detail=detail)
    return need_dense(primitive, *args)


def _arrays(src: MemDesc, kernel: Dims, window: Window) -> tuple[object, ...]:
    window.check(src)
    if len(kernel) != len(src.dims) - 2 or any(k < 1 for k in kernel):
        expected = f"{len(src.dims) - 2} sizes of 1 or more"
        raise ArgumentError("the kernel does not fit src", expected=expected, got=str(kernel))
    strides, dilation, padding_l, padding_r = window.arrays
    return strides, c_dims(kernel), dilation, padding_l, padding_r
