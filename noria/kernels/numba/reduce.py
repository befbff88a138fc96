"""Reductions along any axes, of arrays in any memory layout."""

from __future__ import annotations

from collections.abc import Sequence

from noria.ir.program import Operator
from noria.kernels.numba.body import body_of
from noria.kernels.numba.generate import prepare
from noria.kernels.numba.reduction import KINDS
from noria.kernels.numba.space import fold, kept_strides, memory_order
from noria.kernels.registry import PLAIN, BoundOp, Kernel, Layouts, Prepared, register
from noria.ops.common import axes_of


class Reduce(Kernel):
    """Sum, mean, extremes, product, all, any; `sum_to`."""

    name = "numba:reduce"
    ops = (*(f"reduce_{kind}" for kind in KINDS), "sum_to")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [None], [PLAIN]

    def bind(self, bound: BoundOp) -> Prepared:
        op, (x,), (out,) = bound.op, bound.inputs, bound.outputs
        assert x is not None
        rank, axes = len(x.shape), _axes(op)
        if op.type == "sum_to":
            strides = (0,) * (rank - len(out.shape)) + out.strides
            kept = tuple(0 if a in axes else s for a, s in enumerate(strides))
        else:
            kept = kept_strides(out, axes, rank)
        space = op.operands[0].shape
        loops = fold(space, x.shape, [x.strides, kept], memory_order(x.strides), axes)
        return prepare(bound.note("body", body_of, op), loops, bound, self.name)


def _axes(op: Operator) -> tuple[int, ...]:
    """The axes that are reduced."""
    shape, target = op.operands[0].shape, op.outputs[0].shape
    if op.type != "sum_to":
        return axes_of(op.attrs["axis"], len(shape))
    lead = len(shape) - len(target)
    return (*range(lead), *(lead + i for i, d in enumerate(target) if d == 1))


register(Reduce())
