"""Winograd's transforms of a tile, WIDTH channels at a time, written as LLVM vectors.

Each is T D T^T for a constant matrix T: D's elements are vectors of channels that lie in memory a
row and a column stride apart, the result's lie one after the other at one stride. `NAMESPACE` has
for kernels, with (source, row, column, target, step), addresses and strides in bytes:

- `winograd_data`: inputs [SIDE, SIDE] to what is multiplied
- `winograd_kernel`: taps [TAPS, TAPS] to the other factor; `winograd_kernel_past` writes it past
  the caches, to be followed by `fence` before another thread reads it
- `winograd_result`: products [SIDE, SIDE] to outputs [OUTPUTS, OUTPUTS]
- `winograd_grad`, `winograd_taps`: of an output's gradient to a factor, of the products to taps:
  the gradient by the weight is the same algorithm with its first and its last step exchanged
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import I32
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import LANES, constant, fma, pointer
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.numba.winograd_matrix import STANDARD, Matrix, transposed


def _address(b: ir.IRBuilder, base: ir.Value, *offsets: tuple[ir.Value, int]) -> ir.Value:
    """base + the sum of stride * count, as a pointer to a vector."""
    for stride, count in offsets:
        if count:
            base = b.add(base, b.mul(stride, constant(count)))
    return pointer(b, base)


def _all(x: float) -> ir.Constant:
    return ir.Constant(LANES, [x] * WIDTH)


def _sum(b: ir.IRBuilder, weights: tuple[float, ...], terms: list[ir.Value]) -> ir.Value:
    """Of weight * term, beginning with one that costs no product."""
    pairs = sorted(
        ((w, t) for w, t in zip(weights, terms, strict=True) if w), key=lambda p: p[0] != 1
    )
    (first, term), *rest = pairs
    total = term if first == 1 else b.fmul(_all(first), term)
    for weight, term in rest:
        if abs(weight) == 1:
            total = b.fadd(total, term) if weight > 0 else b.fsub(total, term)
        else:
            total = fma(b, _all(weight), term, total)
    return total


def _two_sided(name: str, matrix: Matrix, past: bool = False) -> Any:
    """T D T^T, the columns first: their results are all that has to be kept.

    past: the result goes to memory past the caches; its address and step are of whole lines
    """

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        source, row, column, target, step = args
        size, count = len(matrix[0]), len(matrix)
        half = []
        for j in range(size):
            given = [
                b.load(_address(b, source, (row, i), (column, j)), align=4) for i in range(size)
            ]
            half.append([_sum(b, weights, given) for weights in matrix])
        for i in range(count):
            line = [half[j][i] for j in range(size)]
            for j, weights in enumerate(matrix):
                place = _address(b, target, (step, i * count + j))
                store = b.store(_sum(b, weights, line), place, align=64 if past else 4)
                if past:
                    store.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))

    return fixed(name, types.void, [types.int64] * 5, emit)


def _fence(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    b.fence("seq_cst")


NAMESPACE: dict[str, Any] = {
    name: _two_sided(name, matrix)
    for name, matrix in (
        ("winograd_data", STANDARD.data),
        ("winograd_kernel", STANDARD.kernel),
        ("winograd_result", STANDARD.result),
        ("winograd_grad", transposed(STANDARD.result)),
        ("winograd_taps", transposed(STANDARD.kernel)),
    )
} | {
    "winograd_kernel_past": _two_sided("winograd_kernel_past", STANDARD.kernel, past=True),
    "fence": fixed("fence", types.void, [], _fence),
}
