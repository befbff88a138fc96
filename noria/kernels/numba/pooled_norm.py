"""Batch norm in training with the ReLU and the max-pooling behind it, and the gradient of a batch
norm behind which a max-pooling stands (`pooled_norm_source.py`), channels-last.

Forward is batch norm's pass for statistics, and a pooling that normalises what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import norm_source
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.pool import as_pictures, count_of, sizes_table
from noria.kernels.numba.pooled_norm_source import SHARED, SIGN, SUMS, backward, forward
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.pool import pool_windows
from noria.ops.pooled_norm import pooling_of
from noria.ops.window import Windows

MOST = 16  # elements of a cell: the source has some lines for each


def _layout(op: Operator) -> Layouts:
    full = [LAST if v is not None and v.ndim > 1 else PLAIN for v in op.inputs]
    return [*full], [LAST if v.ndim > 1 else PLAIN for v in op.outputs]


def _windows(bound: BoundOp) -> tuple[Array, Windows]:
    x = bound.inputs[0]
    assert x is not None
    return x, as_pictures(pool_windows(x.shape[2:], **pooling_of(bound.attrs)))


class PooledBatchNorm(Kernel):
    """pooled_batch_norm of float32 or bfloat16."""

    name = "numba:pooled_batch_norm"
    ops = ("pooled_batch_norm",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32", "bfloat16"), (0,))
        need(op, ("float32",), (1, 2, 3, 4))

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return _layout(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, windows = _windows(bound)
        channels, threads = x.shape[1], bound.threads
        team = max(threads, thread_count())
        width = norm_source.width_of(channels)
        numbers = [x.size // channels, channels, width, norm_source.room_of(width)]
        numbers += [float_bits(k) for k in (bound.attrs["momentum"], bound.attrs["epsilon"], 0.0)]
        statistics = norm_source.factors(x.dtype, channels % norm_source.VECTOR == 0)
        pooling, sizes = forward(x.dtype, windows.kernel), sizes_table(x, windows)
        moved = x.nbytes + (itemsize(x.dtype) + 1) * count_of(x, windows)
        room = norm_source.scratch_of(width, team)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            out, *vectors, places = outs
            factors = scratch + room
            table = [*ins, 0, 0, 0, factors, *vectors, 0, scratch, *numbers]
            work = {"threads": threads, "bytes": x.nbytes, "ops": 4 * x.size}
            first = launch(self.name, statistics, "batch_norm", table, **work)
            signs = factors + 8 * channels
            table = [ins[0], out, places, 0, *sizes, vectors[0], factors, signs]
            work = {"threads": threads, "bytes": moved, "ops": 4 * x.size}
            return [first, launch(self.name, pooling, "pool", table, **work)]

        return Prepared(emit, room + (8 + SIGN * team) * channels, in_place=((3, 3), (4, 4)))


class PooledBatchNormGrad(Kernel):
    """pooled_batch_norm_grad of float32 or bfloat16."""

    name = "numba:pooled_batch_norm_grad"
    ops = ("pooled_batch_norm_grad",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32", "bfloat16"), (0, 4))
        need(op, ("float32",), (1, 2, 3))
        x, grad = op.operands[0], op.operands[4]
        if x.dtype != grad.dtype:
            raise Declined("x and its gradient have different dtypes")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return _layout(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, windows = _windows(bound)
        if prod(windows.stride) > MOST:
            raise Declined("windows are far apart")
        threads, source = bound.threads, backward(x.dtype, windows)
        sizes, count = sizes_table(x, windows), count_of(x, windows)
        moved = 3 * x.nbytes + 2 * (itemsize(x.dtype) + 1) * count
        team = max(threads, thread_count())
        room = norm_source.room_of(x.shape[1])

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            x_at, *vectors, grad, places = ins
            gx, *sums = outs
            table = [grad, places, x_at, gx, *sizes, *vectors, *sums, scratch]
            work = {"threads": threads, "bytes": moved, "ops": 8 * x.size}
            return [launch(self.name, source, "pool", table, **work)]

        return Prepared(emit, room * (SUMS * team + SHARED), in_place=((0, 0),))


register(PooledBatchNorm())
register(PooledBatchNormGrad())
