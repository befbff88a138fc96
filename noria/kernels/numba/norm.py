"""Batch norm in training, forward and gradient, on memory [rows, channels]; with a ReLU, and a
residual before it, in the same passes.

Two passes over memory each: one that sums per channel, one that writes. Sums go over 64 lines in
float32, then into float64, relative to the first row, so that a large mean does not cancel the
variance away. The second pass too subtracts first that row, by an fma, which unlike a difference is
never reordered. Between the passes the team meets at a barrier.

The first pass goes from the last rows to the first, because the operator before has just written
the last ones, and the second pass goes forwards, because the first one ended there: what a cache
keeps of arrays that do not fit is then read from it.

Both walk memory in order, a few hundred numbers at a time, and ask for what comes 2 KB later: four
rows side by side, which need a fourth of the loads and stores of sums, are so many streams that a
prefetcher loses them, unless rows are long. Short rows are taken as one longer line, whose sums
are folded in the end.

x, its gradient and what has their size are float32 or bfloat16. All else is float32, and so is the
arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from noria.core.dtypes import itemsize
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

# `size` numbers lie as lines of `width`, which is some rows at once where rows are short. Scratch:
# per thread `room` numbers' space of 2 float64 totals, 2 float32 partial sums and the float32 that
# is subtracted from x; then 3 float32 that the team shares. room: the width in whole vectors
_ACCUMULATE = """
    team = team_size()
    me = thread_id()
    size = rows * channels
    lines = (size + width - 1) // width
    first = lines * me // team
    last = lines * (me + 1) // team
    total = scratch + me * room * 28
    part = total + room * 16
    center = part + room * 8
    shared = scratch + team * room * 28
    fill_bytes(total, 0, room * 16)
    for at in range(0, width, channels):
        for c in range(channels):
            independent()
            store_float32(center, at + c, CENTER)
    end = last
    while end > first:
        start = max(first, end - 64)
        fill_bytes(part, 0, room * 8)
        line = start
        while width >= WIDE and line + 4 <= end:
            TURN4
            line += 4
        while line < end:
            TURN1
            line += 1
        for c in range(2 * room):
            independent()
            store_float64(total, c, load_float64(total, c) + float64(load_float32(part, c)))
        end = start
    barrier()
    for c in range(channels * me // team, channels * (me + 1) // team):
        t1 = float64(0)
        t2 = float64(0)
        for t in range(team):
            for at in range(0, width, channels):
                t1 += load_float64(scratch + t * room * 28, at + c)
                t2 += load_float64(scratch + t * room * 28, room + at + c)
"""

_WRITE = """
    barrier()
    line = first
    while width >= WIDE and line + 4 <= last:
        TURN4
        line += 4
    while line < last:
        TURN1
        line += 1
    return 0
"""
LINE, VECTOR = 512, 16  # numbers a line has at least, and those of a vector
WIDE = 2048  # numbers of a line from which four go side by side: their sums fill the first cache
STRIP, AHEAD = 512, 2048  # bytes asked for at once, and how much later they are wanted
_ONE = """
at = line * width
stop = min(width, size - at)
for c0 in range(0, stop, STRIP):
    ahead = (at + c0) * ITEMSIZE
ASK
    for c in range(c0, min(c0 + STRIP, stop)):
        independent()
BODY
"""
_FOUR = """
at = line * width
for c in range(width):
    independent()
BODY
"""


def _pass(template: str, before: Sequence[str], terms: Sequence[str], after: Sequence[str]) -> str:
    """A pass that does `terms` with each element i. before, after: what is done per channel c."""
    each = ["d = fma(load_DTYPE(x, i), float32(1), -load_float32(center, c))", *terms]
    read = sorted(set(re.findall(r"load_DTYPE\((\w+), i\)", " ".join(each))))
    ask = [f"prefetch({p} + ahead + {k})" for k in range(AHEAD, AHEAD + STRIP, 64) for p in read]
    one = _ONE.replace("ASK", _indented(ask, 4))
    one = one.replace("BODY", _indented([*before, "i = at + c", *each, *after], 8))
    rows = [line for k in range(4) for line in (f"i = at + {k} * width + c", *each)]
    four = _FOUR.replace("BODY", _indented([*before, *rows, *after], 4))
    return _filled(_filled(template, "TURN1", one), "TURN4", four)


def _filled(template: str, name: str, text: str) -> str:
    """The template with lines of text in the place of the line `name`, as far to the right."""
    place = re.search(rf"^( *){name}$", template, re.MULTILINE)
    assert place is not None
    lines = _indented(text.strip().splitlines(), len(place[1]))
    return template[: place.start()] + lines + template[place.end() :]


def _indented(lines: Sequence[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)


def _accumulate(center: str, terms: Sequence[str]) -> str:
    """The first pass: terms add to s1 and s2, from d = x - center, which is given per channel c."""
    sums = ("part, c", "part, room + c")
    load = [f"s{k} = load_float32({place})" for k, place in enumerate(sums, 1)]
    store = [f"store_float32({place}, s{k})" for k, place in enumerate(sums, 1)]
    return _pass(_ACCUMULATE, load, terms, store).replace("CENTER", center)


def _write(terms: Sequence[str]) -> str:
    """The second pass."""
    return _pass(_WRITE, (), terms, ())


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
    width = load_int64(args, 14)
    room = load_int64(args, 15)
    momentum = load_float64(args, 16)
    epsilon = load_float64(args, 17)
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
        factor = load_float32(scale, c) * float32(inv)
        offset = float32(float64(load_float32(bias, c)) - shift * float64(factor))
        for at in range(0, width, channels):
            store_float32(shared, at + c, factor)
            store_float32(shared, room + at + c, offset)
"""


@cache
def forward(dtype: str, relu: bool, residual: bool) -> str:
    """Source of batch_norm(training=True), with a ReLU and before it a residual if wanted.

    dtype: of x, residual and out; the vectors of channels are float32
    """
    terms = ["y = d * load_float32(shared, c) + load_float32(shared, room + c)"]
    if residual:
        terms.append("y += load_DTYPE(residual, i)")
    if relu:  # NaN is not below 0
        terms.append("y = where(float32(0) > y, float32(0), y)")
    terms.append("store_DTYPE(out, i, y)")
    return _typed(
        dtype,
        _FORWARD,
        _accumulate("load_DTYPE(x, c)", ["s1 += d", "s2 += d * d"]),
        _STATISTICS,
        _write(terms),
    )


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
    width = load_int64(args, 14)
    room = load_int64(args, 15)
"""
_MEANS = """
        inv = float64(load_float32(inv_std, c))
        store_float32(g_bias, c, float32(t1))
        store_float32(g_scale, c, float32(t2 * inv))
        level = float32(t1 / float64(rows))
        slope = float32(t2 * inv * inv / float64(rows))
        factor = load_float32(scale, c) * load_float32(inv_std, c)
        for at in range(0, width, channels):
            store_float32(shared, at + c, level)
            store_float32(shared, room + at + c, slope)
            store_float32(shared, 2 * room + at + c, factor)
"""


@cache
def backward(dtype: str, relu: bool, more: bool, residual: bool) -> str:
    """Source of batch_norm_grad; with `relu` of batch_norm_relu_grad, whose gradient is that where
    out is positive.

    more:     grad + more is the gradient of out
    residual: the first pass writes the masked gradient, and the second one reads it
    dtype:    of the gradients, x and out
    """
    total = "load_DTYPE(grad, i)" + " + load_DTYPE(more, i)" * more
    if relu:
        total = f"where(load_DTYPE(out, i) > float32(0), {total}, float32(0))"
    keep = ["store_DTYPE(masked, i, g)"] * residual
    again = "load_DTYPE(masked, i)" if residual else total
    return _typed(
        dtype,
        _BACKWARD,
        _accumulate("load_float32(mean, c)", [f"g = {total}", "s1 += g", "s2 += g * d", *keep]),
        _MEANS,
        _write(
            [
                f"g = {again}",
                "rest = load_float32(shared, c) + d * load_float32(shared, room + c)",
                "store_DTYPE(gx, i, (g - rest) * load_float32(shared, 2 * room + c))",
            ]
        ),
    )


def _typed(dtype: str, *parts: str) -> str:
    """The parts of a kernel for memory of that dtype."""
    size = itemsize(dtype)
    numbers = {"STRIP": STRIP // size, "WIDE": WIDE, "ITEMSIZE": size}
    source = "".join(parts).replace("DTYPE", dtype)
    for name, number in numbers.items():
        source = source.replace(name, str(number))
    return source


def _rows(a: Array) -> tuple[int, int]:
    return a.size // a.shape[1], a.shape[1]


def width_of(channels: int) -> int:
    """Numbers of a line: whole rows, and if possible whole vectors, in a loop that is worth it."""
    rows = -(-LINE // channels)
    whole = [n for n in range(rows, 1024 // channels + 1) if n * channels % VECTOR == 0]
    return channels * (whole[0] if whole else rows)


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
        width = width_of(channels)
        room = -(-width // VECTOR) * VECTOR
        end = [rows, channels, width, room]
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

        return Prepared(emit, room * (28 * team + 12), in_place=_IN_PLACE[kind])


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
