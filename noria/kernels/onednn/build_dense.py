"""Builder of matrix products.

Each builder of this package returns the remembered Primitive for its arguments. Descriptors may be
`MemDesc.any`: the layout oneDNN prefers is then in `Primitive.descs`. All raise EngineError where
oneDNN refuses the combination.
"""

from __future__ import annotations

from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_dense
from noria.kernels.onednn.enums import ARG
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
