"""Builders of what works element by element or along one dim: eltwise, binary, sum, reorder,
softmax, reduction."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from noria.core.errors import ArgumentError
from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_one_layout
from noria.kernels.onednn.enums import (
    ARG,
    BINARY,
    ELTWISE,
    FORWARD_INFERENCE,
    FORWARD_TRAINING,
    MAX_RANK,
    REDUCTION,
    SOFTMAX,
    lookup,
)
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive, create, remembered


def reorder(src: MemDesc, dst: MemDesc, attr: Attr = PLAIN) -> Primitive:
    """dst = src in another layout or dtype (float to integer rounds to even and saturates)."""
    return remembered(_reorder, src, dst, attr)


def _reorder(src: MemDesc, dst: MemDesc, attr: Attr) -> Primitive:
    engine = library().engine
    given = (src, engine, dst, engine)
    return create("reorder", "reorder", given, (ARG.SRC, ARG.DST), attr=attr)


def eltwise_forward(
    kind: str,
    src: MemDesc,
    dst: MemDesc,
    alpha: float = 0.0,
    beta: float = 0.0,
    attr: Attr = PLAIN,
) -> Primitive:
    """dst = kind(src), see enums.ELTWISE; src and dst may be the same memory."""
    return remembered(_eltwise, kind, src, dst, alpha, beta, attr)


def _eltwise(
    kind: str, src: MemDesc, dst: MemDesc, alpha: float, beta: float, attr: Attr
) -> Primitive:
    algorithm = lookup(ELTWISE, kind, "eltwise kind")
    given = (library().engine, FORWARD_TRAINING, algorithm, src, dst, alpha, beta)
    primitive = create(kind, "eltwise_forward", given, (ARG.SRC, ARG.DST), attr=attr)
    return need_one_layout(primitive, ARG.SRC, ARG.DST, max_rank=5)


def eltwise_backward(
    kind: str,
    diff_src: MemDesc,
    diff_dst: MemDesc,
    data: MemDesc,
    alpha: float = 0.0,
    beta: float = 0.0,
) -> Primitive:
    """diff_src = diff_dst * kind'(src).

    `data` is the argument SRC, or DST for the kinds that end in _use_dst_for_bwd.
    """
    return remembered(_eltwise_backward, kind, diff_src, diff_dst, data, alpha, beta)


def _eltwise_backward(
    kind: str, diff_src: MemDesc, diff_dst: MemDesc, data: MemDesc, alpha: float, beta: float
) -> Primitive:
    algorithm = lookup(ELTWISE, kind, "eltwise kind")
    hint = remembered(_eltwise, kind, data, data, alpha, beta, PLAIN)
    given = (library().engine, algorithm, diff_src, diff_dst, data, alpha, beta, hint.desc)
    read = ARG.DST if kind.endswith("_use_dst_for_bwd") else ARG.SRC
    args = (read, ARG.DIFF_DST, ARG.DIFF_SRC)
    primitive = create(f"{kind}_backward", "eltwise_backward", given, args)
    return need_one_layout(primitive, *args, max_rank=5)


def softmax_forward(
    src: MemDesc, dst: MemDesc, axis: int, attr: Attr = PLAIN, *, log: bool = False
) -> Primitive:
    """dst = softmax of src along `axis`, or its logarithm."""
    return remembered(_softmax, src, dst, axis, log, attr, FORWARD_INFERENCE)


def _softmax(src: MemDesc, dst: MemDesc, axis: int, log: bool, attr: Attr, prop: int) -> Primitive:
    kind = "log_softmax" if log else "softmax"
    given = (library().engine, prop, SOFTMAX[kind], src, dst, axis)
    args = (ARG.SRC, ARG.DST)
    primitive = create(kind, "softmax_forward", given, args, attr=attr, detail=f"axis={axis}")
    return need_one_layout(primitive, ARG.SRC, ARG.DST, max_rank=MAX_RANK)


def softmax_backward(
    diff_src: MemDesc, diff_dst: MemDesc, dst: MemDesc, axis: int, *, log: bool = False
) -> Primitive:
    """diff_src from diff_dst and dst, what softmax_forward gave."""
    return remembered(_softmax_backward, diff_src, diff_dst, dst, axis, log)


def _softmax_backward(
    diff_src: MemDesc, diff_dst: MemDesc, dst: MemDesc, axis: int, log: bool
) -> Primitive:
    kind = "log_softmax" if log else "softmax"
    hint = remembered(_softmax, dst, dst, axis, log, PLAIN, FORWARD_TRAINING)
    given = (library().engine, SOFTMAX[kind], diff_src, diff_dst, dst, axis, hint.desc)
    args = (ARG.DST, ARG.DIFF_DST, ARG.DIFF_SRC)
    name = f"{kind}_backward"
    primitive = create(name, "softmax_backward", given, args, detail=f"axis={axis}")
    return need_one_layout(primitive, *args, max_rank=MAX_RANK)


def binary(kind: str, src0: MemDesc, src1: MemDesc, dst: MemDesc, attr: Attr = PLAIN) -> Primitive:
    """dst = kind(src0, src1), see enums.BINARY; a dim of a source may be 1 where dst's is not.

    src0 may be the same memory as dst.
    """
    return remembered(_binary, kind, src0, src1, dst, attr)


def _binary(kind: str, src0: MemDesc, src1: MemDesc, dst: MemDesc, attr: Attr) -> Primitive:
    given = (library().engine, lookup(BINARY, kind, "binary kind"), src0, src1, dst)
    args = (ARG.SRC_0, ARG.SRC_1, ARG.DST)
    return create(kind, "binary", given, args, attr=attr)


def reduction(
    kind: str,
    src: MemDesc,
    dst: MemDesc,
    p: float = 0.0,
    epsilon: float = 0.0,
    attr: Attr = PLAIN,
) -> Primitive:
    """dst = kind over the dims that are 1 in dst (enums.REDUCTION); norms take p and epsilon."""
    return remembered(_reduction, kind, src, dst, p, epsilon, attr)


def _reduction(
    kind: str, src: MemDesc, dst: MemDesc, p: float, epsilon: float, attr: Attr
) -> Primitive:
    algorithm = lookup(REDUCTION, kind, "reduction kind")
    given = (library().engine, algorithm, src, dst, p, epsilon)
    args = (ARG.SRC, ARG.DST)
    return create(f"reduce_{kind}", "reduction", given, args, attr=attr)


def sum_all(
    scales: Sequence[float], srcs: Sequence[MemDesc], dst: MemDesc, attr: Attr = PLAIN
) -> Primitive:
    """dst = the sum of scales[i] * srcs[i]; the arguments are ARG.multiple_src(i)."""
    return remembered(_sum_all, tuple(scales), tuple(srcs), dst, attr)


def _sum_all(
    scales: tuple[float, ...], srcs: tuple[MemDesc, ...], dst: MemDesc, attr: Attr
) -> Primitive:
    n = len(srcs)
    if not n or len(scales) != n:
        got = f"{len(scales)} scales, {n} sources"
        raise ArgumentError("a sum needs sources and a scale for each", got=got)
    handles = (ctypes.c_void_p * n)(*[s.handle for s in srcs])
    given = (library().engine, dst, n, (ctypes.c_float * n)(*scales), handles)
    args = (*map(ARG.multiple_src, range(n)), ARG.DST)
    return create("sum", "sum", given, args, attr=attr, detail=", ".join(map(repr, srcs)))
