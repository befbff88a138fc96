"""Batch norm in training, forward and gradient, on memory [rows, channels].

Two passes over memory each: one that sums per channel, one that writes. Sums go over 64 rows in
float32, then into float64, relative to the first row, so that a large mean does not cancel the
variance away. The second pass too subtracts first that row (by an fma, which unlike a difference is
never reordered), then the mean of what is left. Between the passes the team meets at a barrier.

Pointers called `whole_` are those of x, its gradient, and what has their size: float32 or bfloat16.
All else is float32, and so is the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need, typed
from noria.kernels.numba.parallel import thread_count
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
from noria.ops.common import axis_of

# Scratch: per thread 2C float64 totals and 2C float32 partial sums; then 3C float32 shared.
# `accumulate` adds up term1 and term2 of all rows of this thread.
_ACCUMULATE = """
    team = team_size()
    me = thread_id()
    first = rows * me // team
    last = rows * (me + 1) // team
    total = scratch + me * channels * 24
    part = total + channels * 16
    shared = scratch + team * channels * 24
    fill_bytes(total, 0, channels * 16)
    row = first
    while row < last:
        stop = min(row + 64, last)
        fill_bytes(part, 0, channels * 8)
        while row + 4 <= stop:
            at = row * channels
            for c in range(channels):
                independent()
                s1 = load_float32(part, c)
                s2 = load_float32(part, channels + c)
PREPARE
TERMS4
                store_float32(part, c, s1)
                store_float32(part, channels + c, s2)
            row += 4
        while row < stop:
            at = row * channels
            for c in range(channels):
                independent()
                s1 = load_float32(part, c)
                s2 = load_float32(part, channels + c)
PREPARE
TERMS1
                store_float32(part, c, s1)
                store_float32(part, channels + c, s2)
            row += 1
        for c in range(2 * channels):
            independent()
            store_float64(total, c, load_float64(total, c) + float64(load_float32(part, c)))
    barrier()
    for c in range(channels * me // team, channels * (me + 1) // team):
        t1 = float64(0)
        t2 = float64(0)
        for t in range(team):
            t1 += load_float64(scratch + t * channels * 24, c)
            t2 += load_float64(scratch + t * channels * 24, channels + c)
"""


def _accumulate(prepare: str, terms: str) -> str:
    """The first pass. prepare: per channel; terms: adds to s1 and s2, with {at} the row's place."""
    indent = " " * 16

    def block(text: str) -> str:
        return "\n".join(indent + line for line in text.strip().splitlines())

    four = "\n".join(block(terms.replace("{at}", f"(at + {k} * channels + c)")) for k in range(4))
    out = _ACCUMULATE.replace("PREPARE", block(prepare)).replace("TERMS4", four)
    return out.replace("TERMS1", block(terms.replace("{at}", "(at + c)")))


_FORWARD = (
    """
def batch_norm(args):
    whole_x = load_int64(args, 0)
    scale = load_int64(args, 1)
    bias = load_int64(args, 2)
    mean = load_int64(args, 3)
    var = load_int64(args, 4)
    whole_out = load_int64(args, 5)
    batch_mean = load_int64(args, 6)
    inv_std = load_int64(args, 7)
    new_mean = load_int64(args, 8)
    new_var = load_int64(args, 9)
    scratch = load_int64(args, 10)
    rows = load_int64(args, 11)
    channels = load_int64(args, 12)
    momentum = load_float64(args, 13)
    epsilon = load_float64(args, 14)
"""
    + _accumulate(
        "k = load_float32(whole_x, c)",
        "d = load_float32(whole_x, {at}) - k\ns1 += d\ns2 += d * d",
    )
    + """
        shift = t1 / float64(rows)
        m = shift + float64(load_float32(whole_x, c))
        v = max(t2 / float64(rows) - shift * shift, float64(0))
        inv = float64(1) / sqrt(v + epsilon)
        store_float32(batch_mean, c, float32(m))
        store_float32(inv_std, c, float32(inv))
        unbiased = v * float64(rows) / float64(max(rows - 1, 1))
        old_mean = float64(load_float32(mean, c))
        old_var = float64(load_float32(var, c))
        store_float32(new_mean, c, float32(old_mean + momentum * (m - old_mean)))
        store_float32(new_var, c, float32(old_var + momentum * (unbiased - old_var)))
        store_float32(shared, c, load_float32(whole_x, c))
        store_float32(shared, channels + c, float32(shift))
        store_float32(shared, 2 * channels + c, load_float32(scale, c) * float32(inv))
    barrier()
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            independent()
            d = fma(load_float32(whole_x, at + c), float32(1), -load_float32(shared, c))
            d -= load_float32(shared, channels + c)
            y = d * load_float32(shared, 2 * channels + c) + load_float32(bias, c)
            store_float32(whole_out, at + c, y)
    return 0
"""
)

_BACKWARD = (
    """
def batch_norm_grad(args):
    whole_x = load_int64(args, 0)
    scale = load_int64(args, 1)
    mean = load_int64(args, 2)
    inv_std = load_int64(args, 3)
    whole_grad = load_int64(args, 4)
    whole_gx = load_int64(args, 5)
    g_scale = load_int64(args, 6)
    g_bias = load_int64(args, 7)
    scratch = load_int64(args, 8)
    rows = load_int64(args, 9)
    channels = load_int64(args, 10)
"""
    + _accumulate(
        "m = load_float32(mean, c)",
        "g = load_float32(whole_grad, {at})\ns1 += g\ns2 += g * (load_float32(whole_x, {at}) - m)",
    )
    + """
        inv = float64(load_float32(inv_std, c))
        store_float32(g_bias, c, float32(t1))
        store_float32(g_scale, c, float32(t2 * inv))
        store_float32(shared, c, float32(t1 / float64(rows)))
        store_float32(shared, channels + c, float32(t2 * inv * inv / float64(rows)))
    barrier()
    for row in range(first, last):
        at = row * channels
        for c in range(channels):
            independent()
            d = load_float32(whole_x, at + c) - load_float32(mean, c)
            rest = load_float32(shared, c) + d * load_float32(shared, channels + c)
            factor = load_float32(scale, c) * load_float32(inv_std, c)
            store_float32(whole_gx, at + c, (load_float32(whole_grad, at + c) - rest) * factor)
    return 0
"""
)


HALVES_OF = {"batch_norm": [0], "batch_norm_grad": [0, 4]}  # inputs that may be bfloat16


def _rows(a: Array) -> tuple[int, int]:
    return a.size // a.shape[1], a.shape[1]


class BatchNorm(Kernel):
    """Training form and its gradient; the test form is elementwise."""

    name = "numba:batch_norm"
    ops = ("batch_norm", "batch_norm_grad")

    def accepts(self, op: Operator) -> None:
        halves = HALVES_OF[op.type]
        need(op, ("float32",), [i for i in range(len(op.inputs)) if i not in halves])
        need(op, ("float32", "bfloat16"), halves)
        if len({op.operands[i].dtype for i in halves}) > 1:
            raise Declined("x and its gradient have different dtypes")
        if op.type == "batch_norm" and not op.attrs["training"]:
            raise Declined("the test form")
        if axis_of(op.attrs["axis"], op.operands[0].ndim) != 1:
            raise Declined("channels are not axis 1")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        full = LAST if op.operands[0].ndim > 2 else PLAIN
        wanted: list[str | None] = [
            full if v is not None and v.ndim > 1 else PLAIN for v in op.inputs
        ]
        return wanted, [full if v.ndim > 1 else PLAIN for v in op.outputs]

    def bind(self, bound: BoundOp) -> Prepared:
        x = bound.inputs[0]
        assert x is not None
        rows, channels = _rows(x)
        backward = bound.op.type == "batch_norm_grad"
        source = typed(_BACKWARD if backward else _FORWARD, x.dtype, "whole_")
        end = [rows, channels]
        if not backward:
            end += [float_bits(bound.attrs[k]) for k in ("momentum", "epsilon")]
        team = max(bound.threads, thread_count())

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            return [
                launch(
                    self.name,
                    source,
                    bound.op.type,
                    [*ins, *outs, scratch, *end],
                    threads=bound.threads,
                    bytes=(5 if backward else 3) * x.nbytes,
                    ops=8 * x.size,
                )
            ]

        in_place = ((0, 0), (0, 4)) if backward else ((0, 0), (3, 3), (4, 4))
        return Prepared(emit, channels * (24 * team + 12), in_place=in_place)


register(BatchNorm())
