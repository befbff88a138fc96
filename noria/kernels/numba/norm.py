"""Batch norm in training, forward and gradient, on memory [rows, channels]; with a ReLU, and a
residual before it, in the same passes.

Two passes over memory each: one that sums per channel, one that writes. Sums go over 64 rows in
float32, then into float64, relative to the first row, so that a large mean does not cancel the
variance away. The second pass too subtracts first that row (by an fma, which unlike a difference is
never reordered), then the mean of what is left. Between the passes the team meets at a barrier.

The first pass goes from the last rows to the first, because the operator before has just written
the last ones, and the second pass goes forwards, because the first one ended there: what a cache
keeps of arrays that do not fit is then read from it.

x, its gradient and what has their size are float32 or bfloat16. All else is float32, and so is the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need
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
    end = last
    while end > first:
        row = max(first, end - 64)
        stop = end
        end = row
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

_WRITE = """
    barrier()
    row = first
    while row + 4 <= last:
        at = row * channels
        for c in range(channels):
            independent()
PREPARE
TERMS4
        row += 4
    while row < last:
        at = row * channels
        for c in range(channels):
            independent()
PREPARE
TERMS1
        row += 1
    return 0
"""


def _unrolled(template: str, prepare: str, terms: str, indent: int) -> str:
    """Four rows at a time, then single ones. prepare: once per channel; terms: per element, whose
    place is {at}."""

    def block(text: str) -> str:
        return "\n".join(" " * indent + line for line in text.strip().splitlines())

    four = "\n".join(block(terms.replace("{at}", f"(at + {k} * channels + c)")) for k in range(4))
    out = template.replace("PREPARE", block(prepare)).replace("TERMS4", four)
    return out.replace("TERMS1", block(terms.replace("{at}", "(at + c)")))


def _accumulate(prepare: str, terms: str) -> str:
    """The first pass: terms add to s1 and s2."""
    return _unrolled(_ACCUMULATE, prepare, terms, 16)


def _write(prepare: str, terms: str) -> str:
    """The second pass."""
    return _unrolled(_WRITE, prepare, terms, 12)


_FORWARD = """
def batch_norm(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    bias = load_int64(args, 2)
    mean = load_int64(args, 3)
    var = load_int64(args, 4)
    residual = load_int64(args, 5)
    out = load_int64(args, 6)
    batch_mean = load_int64(args, 7)
    inv_std = load_int64(args, 8)
    new_mean = load_int64(args, 9)
    new_var = load_int64(args, 10)
    scratch = load_int64(args, 11)
    rows = load_int64(args, 12)
    channels = load_int64(args, 13)
    momentum = load_float64(args, 14)
    epsilon = load_float64(args, 15)
"""
_STATISTICS = """
        shift = t1 / float64(rows)
        m = shift + float64(load_DTYPE(x, c))
        v = max(t2 / float64(rows) - shift * shift, float64(0))
        inv = float64(1) / sqrt(v + epsilon)
        store_float32(batch_mean, c, float32(m))
        store_float32(inv_std, c, float32(inv))
        unbiased = v * float64(rows) / float64(max(rows - 1, 1))
        old_mean = float64(load_float32(mean, c))
        old_var = float64(load_float32(var, c))
        store_float32(new_mean, c, float32(old_mean + momentum * (m - old_mean)))
        store_float32(new_var, c, float32(old_var + momentum * (unbiased - old_var)))
        store_float32(shared, c, load_DTYPE(x, c))
        store_float32(shared, channels + c, float32(shift))
        store_float32(shared, 2 * channels + c, load_float32(scale, c) * float32(inv))
"""


@cache
def forward(dtype: str, relu: bool, residual: bool) -> str:
    """Source of batch_norm(training=True), with a ReLU and before it a residual if wanted.

    dtype: of x, residual and out; the vectors of channels are float32
    """
    value = "d * factor + offset" + " + load_DTYPE(residual, {at})" * residual
    lines = [
        "d = fma(load_DTYPE(x, {at}), float32(1), -k) - shift",
        f"y = {value}",
        f"store_DTYPE(out, {{at}}, {'maximum(y, float32(0))' if relu else 'y'})",
    ]
    source = (
        _FORWARD
        + _accumulate(
            "k = load_DTYPE(x, c)",
            "d = load_DTYPE(x, {at}) - k\ns1 += d\ns2 += d * d",
        )
        + _STATISTICS
        + _write(
            "k = load_float32(shared, c)\n"
            "shift = load_float32(shared, channels + c)\n"
            "factor = load_float32(shared, 2 * channels + c)\n"
            "offset = load_float32(bias, c)",
            "\n".join(lines),
        )
    )
    return source.replace("DTYPE", dtype)


_BACKWARD = """
def batch_norm_grad(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    mean = load_int64(args, 2)
    inv_std = load_int64(args, 3)
    out = load_int64(args, 4)
    grad = load_int64(args, 5)
    more = load_int64(args, 6)
    gx = load_int64(args, 7)
    g_scale = load_int64(args, 8)
    g_bias = load_int64(args, 9)
    masked = load_int64(args, 10)
    scratch = load_int64(args, 11)
    rows = load_int64(args, 12)
    channels = load_int64(args, 13)
"""
_MEANS = """
        inv = float64(load_float32(inv_std, c))
        store_float32(g_bias, c, float32(t1))
        store_float32(g_scale, c, float32(t2 * inv))
        store_float32(shared, c, float32(t1 / float64(rows)))
        store_float32(shared, channels + c, float32(t2 * inv * inv / float64(rows)))
"""


@cache
def backward(dtype: str, relu: bool, more: bool, residual: bool) -> str:
    """Source of batch_norm_grad; with `relu` of batch_norm_relu_grad, whose gradient is that where
    out is positive.

    more:     grad + more is the gradient of out
    residual: the first pass writes the masked gradient, and the second one reads it
    dtype:    of the gradients, x and out
    """
    total = "load_DTYPE(grad, {at})" + " + load_DTYPE(more, {at})" * more
    if relu:
        total = f"where(load_DTYPE(out, {{at}}) > float32(0), {total}, float32(0))"
    keep = "\nstore_DTYPE(masked, {at}, g)" * residual
    again = "load_DTYPE(masked, {at})" if residual else total
    source = (
        _BACKWARD
        + _accumulate(
            "m = load_float32(mean, c)",
            f"g = {total}\ns1 += g\ns2 += g * (load_DTYPE(x, {{at}}) - m){keep}",
        )
        + _MEANS
        + _write(
            "m = load_float32(mean, c)\n"
            "level = load_float32(shared, c)\n"
            "slope = load_float32(shared, channels + c)\n"
            "factor = load_float32(scale, c) * load_float32(inv_std, c)",
            f"g = {again}\n"
            "rest = level + (load_DTYPE(x, {at}) - m) * slope\n"
            "store_DTYPE(gx, {at}, (g - rest) * factor)",
        )
    )
    return source.replace("DTYPE", dtype)


def _rows(a: Array) -> tuple[int, int]:
    return a.size // a.shape[1], a.shape[1]


class BatchNorm(Kernel):
    """Training form and its gradient, with a ReLU or without; the test form is elementwise."""

    name = "numba:batch_norm"
    ops = ("batch_norm", "batch_norm_grad", "batch_norm_relu", "batch_norm_relu_grad")

    def accepts(self, op: Operator) -> None:
        large = [i for i, v in enumerate(op.inputs) if v is not None and v.ndim > 1]
        need(op, ("float32",), [i for i in range(len(op.inputs)) if i not in large])
        need(op, ("float32", "bfloat16"), large)
        if len({v.dtype for v in op.operands if v.ndim > 1}) > 1:
            raise Declined("x and its gradient have different dtypes")
        if op.type == "batch_norm" and not op.attrs["training"]:
            raise Declined("the test form")
        if axis_of(op.attrs["axis"], op.operands[0].ndim) != 1:
            raise Declined("channels are not axis 1")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        full = LAST if op.operands[0].ndim > 2 else PLAIN
        wanted: list[str | None] = [
            None if v is None else full if v.ndim > 1 else PLAIN for v in op.inputs
        ]
        return wanted, [full if v.ndim > 1 else PLAIN for v in op.outputs]

    def bind(self, bound: BoundOp) -> Prepared:
        x, kind = bound.inputs[0], bound.op.type
        assert x is not None
        rows, channels = _rows(x)
        end = [rows, channels]
        if kind.endswith("grad"):
            entry, source = "batch_norm_grad", _backward_source(bound)
        else:
            entry, source = "batch_norm", _forward_source(bound)
            end += [float_bits(bound.attrs[k]) for k in ("momentum", "epsilon")]
        team = max(bound.threads, thread_count())
        given, made = _places(kind)
        moved = _passes(bound) * x.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = [ins[i] if i is not None and i < len(ins) else 0 for i in given]
            results = [*outs, *[0] * (made - len(outs))]
            table = [*addresses, *results, scratch, *end]
            more = {"threads": bound.threads, "bytes": moved, "ops": 8 * x.size}
            return [launch(self.name, source, entry, table, **more)]

        return Prepared(emit, channels * (24 * team + 12), in_place=_IN_PLACE[kind])


_IN_PLACE = {
    "batch_norm": ((0, 0), (3, 3), (4, 4)),
    "batch_norm_relu": ((0, 0), (0, 5), (3, 3), (4, 4)),
    "batch_norm_grad": ((0, 0), (0, 4)),
    "batch_norm_relu_grad": ((0, 0), (0, 5), (3, 5), (3, 6)),
}


def _places(kind: str) -> tuple[tuple[int | None, ...], int]:
    """(where the table takes its inputs from, how many outputs it has room for)."""
    if kind == "batch_norm_grad":
        return (0, 1, 2, 3, None, 4, None), 4
    return (tuple(range(7)), 4) if kind == "batch_norm_relu_grad" else (tuple(range(6)), 5)


def _forward_source(bound: BoundOp) -> str:
    x, *_, last = bound.inputs
    assert x is not None
    relu = bound.op.type == "batch_norm_relu"
    return forward(x.dtype, relu, relu and len(bound.inputs) == 6 and last is not None)


def _backward_source(bound: BoundOp) -> str:
    x, *_, last = bound.inputs
    assert x is not None
    if bound.op.type == "batch_norm_grad":
        return backward(x.dtype, False, False, False)
    more = len(bound.inputs) == 7 and last is not None
    return backward(x.dtype, True, more, bool(bound.attrs["residual"]))


def _passes(bound: BoundOp) -> int:
    """How often the kernel goes over memory of the size of x."""
    large = [a for a in bound.inputs if a is not None and len(a.shape) > 1]
    if not bound.op.type.endswith("grad"):
        return 2 + len(large)
    masked = len(bound.outputs) > 3
    return len(large) + (4 if masked else 1 + len(large))


register(BatchNorm())
