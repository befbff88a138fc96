"""Source of a max-pooling that normalises what it reads, and of the gradient of a batch norm whose
own gradient a max-pooling spreads: what is pooled is never in memory.

Forward the numbers themselves are compared, or with a negative scale their negatives, and only the
largest of a window is normalised, in a loop of its own. Batch statistics have seen every number, so
where one is NaN or infinite all of its channel becomes NaN, and comparisons need not care. Those of
bfloat16 are integers of the same order, which fill vectors of twice as many.

Backwards both passes go through the cells of `pool_places.py` and find each gradient in registers:
the first sums per channel, from the last rows to the first, so that the second, which writes, finds
in a cache what was read last.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from noria.kernels.numba.launch import typed
from noria.kernels.numba.norm_source import AHEAD, MEANS
from noria.kernels.numba.pool import HEAD, border_taps, pool_source, taps_of
from noria.kernels.numba.pool_places import CELLS, Cells, cell
from noria.ops.max_places import NOWHERE
from noria.ops.window import Windows

SIGN = 4  # bytes of scratch for each channel, of a thread
SUMS, SHARED = 24, 12  # the same backwards: of a thread, of all
LOT = 64  # cells whose sums are float32


class _Order(NamedTuple):
    """How the numbers of a dtype are compared: texts of loading x at {at}, of the best so far in
    the memory of out, of storing it as `v`, of what is below all; the type of a place, which has
    the width of what is compared; the best as x; and of storing whether a channel looks `down`."""

    load: str
    best: str
    keep: str
    least: str
    place: str
    found: str
    sign: str


_ORDERS = {
    "float32": _Order(
        load="load_float32(a0, {at}) * load_float32(signs, c)",
        best="load_float32(a1, at + c)",
        keep="store_float32(a1, at + c, v)",
        least="float32(-1e300)",  # -inf
        place="int32",
        found="load_float32(a1, at + c) * load_float32(signs, c)",
        sign="store_float32(signs, c, where(down, float32(-1), float32(1)))",
    ),
    "bfloat16": _Order(
        load="rank_bfloat16(load_uint16(a0, {at}), load_uint16(signs, c))",
        best="load_int16(a1, at + c)",
        keep="store_int16(a1, at + c, v)",
        least="int16(-32768)",
        place="int16",
        found="of_rank_bfloat16(load_int16(a1, at + c), load_uint16(signs, c))",
        sign="store_uint16(signs, c, where(down, int32(32768), int32(0)))",
    ),
}
_SIGNS = f"""
    mean = load_int64(args, 19)
    factors = load_int64(args, 20)
    signs = load_int64(args, 21) + thread_id() * channels * {SIGN}
    for c in range(channels):
        independent()
        down = load_float32(factors, c) < float32(0)
        STORE_SIGN
"""
_NORMED = f"""
            for c in range(channels):
                independent()
                d = fma(FOUND, float32(1), -load_float32(mean, c))
                y = d * load_float32(factors, c) + load_float32(factors, channels + c)
                y = where(float32(0) > y, float32(0), y)  # NaN is not below 0
                k = int32(load_uint8(a2, at + c))
                y = where(k == int32({NOWHERE}), float32(-1e300), y)
                store_float32(a1, at + c, y)
                store_uint8(a2, at + c, where(isnan(y), int32({NOWHERE}), k))
"""


@cache
def forward(dtype: str, kernel: tuple[int, ...]) -> str:
    """a0: x, a1: out, a2: places; behind the sizes of `pool.py` the mean of the batch, factors, as
    of `norm_source.py`, and scratch.

    dtype: of x and out
    """
    order = _ORDERS[dtype]
    first, *rest = (order.load.format(at=f"base + o{i}_{j} + c") for i, j in taps_of(kernel))
    lines = [*_asked(kernel), "for c in range(channels):", "    independent()"]
    lines += [f"    v = {first}", f"    k = {order.place}(0)"]
    for number, load in enumerate(rest, 1):
        lines += [f"    x = {load}", "    taken = x > v", "    v = where(taken, x, v)"]
        lines.append(f"    k = where(taken, {order.place}({number}), k)")
    lines += [f"    {order.keep}", "    store_uint8(a2, at + c, k)"]
    inside = "".join(f"\n                {line}" for line in lines)
    before, body = _border(order, kernel[1])
    text = pool_source(
        kernel,
        "batch * out_h",
        inside,
        before,
        border_taps(kernel, body),
        first=_SIGNS.replace("STORE_SIGN", order.sign),
        after=_NORMED[1:].replace("FOUND", order.found),
    )
    return typed(text, dtype, "a")


def _asked(kernel: tuple[int, ...]) -> list[str]:
    """Requests for what a later window sees first, in the lower rows: it is in no cache yet."""
    asked = (
        f"    prefetch(a0 + (base + o{i}_0) * ITEMSIZE + {AHEAD} + k)"
        for i in range(kernel[0] // 2, kernel[0])
    )
    return ["for k in range(0, sw * channels * ITEMSIZE, 64):", *asked]


def _border(order: _Order, wide: int) -> tuple[str, str]:
    """Texts before the elements of a window at the border, and for each of them."""
    before = f"""
                for c in range(channels):
                    independent()
                    v = {order.least}
                    {order.keep}
                    store_uint8(a2, at + c, {NOWHERE})"""
    body = f"""                                for c in range(channels):
                                    independent()
                                    v = {order.best}
                                    x = {order.load.format(at="tap + c")}
                                    k = {order.place}(load_uint8(a2, at + c))
                                    taken = k == {order.place}({NOWHERE}) or x > v
                                    v = where(taken, x, v)
                                    {order.keep}
                                    number = {order.place}(i * {wide} + j)
                                    store_uint8(a2, at + c, where(taken, number, k))"""
    return before, body


_BACKWARD = f"""
    scale = load_int64(args, 19)
    mean = load_int64(args, 20)
    inv_std = load_int64(args, 21)
    g_scale = load_int64(args, 22)
    g_bias = load_int64(args, 23)
    scratch = load_int64(args, 24)
    me = thread_id()
    pixels = batch * height * width
    room = (channels + 15) // 16 * 16
    total = scratch + me * room * {SUMS}
    part = total + room * 16
    shared = scratch + team * room * {SUMS}
{CELLS[1:]}
    first = rows * me // team
    last = rows * (me + 1) // team
    fill_bytes(total, 0, room * 16)
    number = last
    while number > first:
        number -= 1
SUMMED_ROW
        for start in range(0, cells_w, {LOT}):
            fill_bytes(part, 0, room * 8)
            for column in range(start, min(start + {LOT}, cells_w)):
SUMMED_CELL
            for c in range(2 * room):
                independent()
                store_float64(total, c, load_float64(total, c) + float64(load_float32(part, c)))
    barrier()
    for c in range(channels * me // team, channels * (me + 1) // team):
        t1 = float64(0)
        t2 = float64(0)
        for t in range(team):
            t1 += load_float64(scratch + t * room * {SUMS}, c)
            t2 += load_float64(scratch + t * room * {SUMS}, room + c)
MEANS
    barrier()
    for number in range(first, last):
WRITTEN_ROW
        for column in range(cells_w):
WRITTEN_CELL
    return 0
"""
_CENTRED = "d = fma(load_float32(a2, HERE), float32(1), -load_float32(mean, c))"


def backward(dtype: str, windows: Windows) -> str:
    """a0: gradient of out, a1: places, a2: x, a3: its gradient; behind the sizes of `pool.py`
    scale, mean, inv_std, gradients of scale and bias, scratch.

    dtype: of the gradients but those two, and of x
    """
    seen = cell(windows)
    high, wide = windows.stride
    every = {(a, b): seen.get((a, b), []) for a in range(high) for b in range(wide)}
    summed = Cells(
        seen,
        [_CENTRED, "s1 += g", "s2 += g * d"],
        ["s1 = load_float32(part, c)", "s2 = load_float32(part, room + c)"],
        ["store_float32(part, c, s1)", "store_float32(part, room + c, s2)"],
        ahead="a2",
    )
    rest = "load_float32(shared, c) + d * load_float32(shared, room + c)"
    gx = f"(g - ({rest})) * load_float32(shared, 2 * room + c)"
    written = Cells(every, [_CENTRED, f"store_float32(a3, HERE, {gx})"], ahead="a2")
    text = HEAD + _BACKWARD[1:]
    for name, part in (
        ("SUMMED_ROW", summed.row(8)),
        ("SUMMED_CELL", summed.column(16)),
        ("WRITTEN_ROW", written.row(8)),
        ("WRITTEN_CELL", written.column(12)),
        ("MEANS", MEANS[1:].replace("rows", "pixels").replace("width", "channels")),
    ):
        text = text.replace(name, part)
    return typed(text, dtype, "a")
