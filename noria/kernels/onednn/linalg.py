"""Matrix products by oneDNN: matmul, linear, linear with a fused activation."""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.onednn.attr import Binary
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.common import activation, attr, behind, declining, need, pack_for
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive
from noria.kernels.registry import (
    Array,
    BoundOp,
    Declined,
    Kernel,
    Pack,
    Prepared,
    register,
    strides_of,
)

PACK_ROWS = 768  # with fewer rows, packing a weight that changes costs more than it saves
# A transposed weight oneDNN reads as fast as a packed one: 1024 x 512 x 2048 by 449 and 452 GF/s.


def product(
    x: MemDesc,
    w: MemDesc,
    out: MemDesc,
    bias: MemDesc | None,
    bound: BoundOp,
    act: str | None,
    *,
    residual: MemDesc | None = None,
) -> Prepared:
    """out = act(x @ w + bias + residual), inputs 0, 1, 2 and 3 of the operator; w packed where that
    pays."""
    how = attr((*([] if residual is None else [Binary("add", residual)]), *activation(act)))
    rows = prod(x.dims[:-1])
    packs: list[Pack] = []
    primitive: Primitive | None = None
    turned = w.strides is not None and w.strides[-2] == 1 and w.dims[-1] > 1
    if len(w.dims) == 2 and (bound.fixed[1] or (rows >= PACK_ROWS and not turned)):
        primitive = matmul(x, MemDesc.any(w.dims, w.dtype), out, bias, how)
        pack = pack_for(primitive, ARG.WEIGHTS, w, 1, bound.threads)
        packs = [pack] if pack is not None else []
    if primitive is None:
        primitive = matmul(x, w, out, bias, how)
    chosen = primitive

    def emit(ins: list[int], outs: list[int], copies: list[int], scratch: int) -> list[Call]:
        addresses = {ARG.SRC: ins[0], ARG.WEIGHTS: copies[0] if packs else ins[1]}
        addresses[ARG.DST] = outs[0]
        if bias is not None:
            addresses[ARG.BIAS] = ins[2]
        if residual is not None:
            addresses[ARG.post_op(0)] = ins[3]
        if chosen.scratch_bytes:
            addresses[ARG.SCRATCHPAD] = scratch
        after = behind(act, outs[0], prod(out.dims), out.dtype, bound.threads)
        return [chosen.call(addresses), *after]

    flops = 2.0 * prod(out.dims) * x.dims[-1]
    return Prepared(emit, chosen.scratch_bytes, packs, work=flops, detail=chosen.impl)


def _matrix(a: Array, transpose: bool) -> MemDesc:
    shape, strides = list(a.shape), list(a.strides)
    if transpose:
        shape[-2:], strides[-2:] = shape[-2:][::-1], strides[-2:][::-1]
    return MemDesc(shape, a.dtype, strides)


def _flat(a: Array) -> Array:
    """[..., K] as [rows, K]."""
    shape = (prod(a.shape[:-1]), a.shape[-1])
    return Array(shape, a.dtype, strides_of(shape, "plain"))


def _raised(a: Array, rank: int) -> Array:
    extra = rank - len(a.shape)
    shape = (1,) * extra + a.shape
    return Array(shape, a.dtype, strides_of(shape, "plain"))


class MatMul(Kernel):
    """Batched or plain product of two arrays of rank 2 or more."""

    name = "onednn:matmul"
    ops = ("matmul",)

    def accepts(self, op: Operator) -> None:
        need(op)
        if any(v.ndim < 2 for v in op.operands):
            raise Declined("an operand is a vector")

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        x, y = bound.inputs
        out = bound.outputs[0]
        assert x is not None and y is not None
        tx, ty = bound.attrs["transpose_x"], bound.attrs["transpose_y"]
        if len(y.shape) == 2 and not tx:
            x, out = _flat(x), _flat(out)
        rank = max(len(x.shape), len(y.shape))
        x, y = _raised(x, rank), _raised(y, rank)
        return product(
            _matrix(x, tx), _matrix(y, ty), _matrix(_raised(out, rank), False), None, bound, None
        )


class Linear(Kernel):
    """x @ weight.T + bias; `fused_linear` adds a residual and an activation."""

    name = "onednn:linear"
    ops = ("linear", "fused_linear")

    def accepts(self, op: Operator) -> None:
        need(op)
        if op.operands[0].ndim == 0:
            raise Declined("x is a scalar")
        activation(op.attrs.get("activation"))

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        b = None if bias is None else MemDesc((1, *bias.shape), bias.dtype)
        act = bound.attrs.get("activation")
        flat, out = _flat(x), _flat(bound.outputs[0])
        matrices = _matrix(flat, False), _matrix(w, True), _matrix(out, False)
        more = None if residual is None else _matrix(_flat(residual), False)
        return product(*matrices, b, bound, act, residual=more)


register(MatMul())
register(Linear())
