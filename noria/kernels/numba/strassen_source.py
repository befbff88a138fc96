"""The code of `strassen.py`: sums of a weight's quarters, sums of the rows', and the products.

With the halves of the rows A, of the weight B and of the result C, columns and rows alike,

    S1 = A21 + A22    T1 = B12 - B11    Q = A11 B11          U = Q + S1 T1     P = S3 T3
    S2 = S1 - A11     T2 = B22 - T1     C11 = Q + A12 B21    C12 = U + S4 B22  C22 = U + P
    S3 = A11 - A21    T3 = B22 - B12    Q += S2 T2           Q += P
    S4 = A12 - S2     T4 = B21 - T2                          C21 = Q + A22 T4

is Winograd's form of Strassen's algorithm. Written so, each product but P is added to one thing
only, so it begins with that thing in its registers and costs no more than another product does.
Q, U and P of a pair of panels stay in the caches.
"""

from __future__ import annotations

from functools import cache
from textwrap import indent

from noria.core.machine import caches
from noria.kernels.numba.linear import ACTIVATIONS
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS, WIDTH

LINE = 4 * PANEL  # bytes of a row of a panel
SLOTS = 7  # panels that are read for a pair of panels of the result
B11, B21, T2, T1, T3, B22, T4 = range(SLOTS)  # in the order of their use
# Inputs whose part of a panel, and of the next, stay in the second cache.
DEPTH = min(384, caches().second * 3 // 8192 // WIDTH * WIDTH)
LEAST, MOST = 2.0**-80, 2.0**100  # sums of squares: nothing is lost below, nothing overflows above
# Two rows, or two columns of the weight, are mixed if neither is so many times as long as the
# other: the rounding of the longer one costs the other two bits at most.
APART = 4
TABLE = 256  # bytes of a thread's table of a product

# Fields of that table: C = or = FROM + A B of a panel, `finish`ed or not. Rows in bytes.
_FIELDS: tuple[str, ...] = (
    "a",
    "a_row",
    "b",
    "c",
    "c_row",
    "start",
    "start_row",
    "add",
    "high",
    "deep",
)
_FIELDS += ("finish", "bias", "residual", "near", "near_residual", "near_row", "end", "ending")
_SHAPE = len(_FIELDS)  # where that of a tile begins
_ROWS = _SHAPE + 10  # what of a tile is to be finished: its address, first row and rows
_CALM = TABLE // 8 - 1  # what the thread found out about its rows


def _calm(a: str, b: str) -> str:
    """Whether two sums of squares are of numbers that may be mixed; NaN never is."""
    bounds = " and ".join(f"float32({LEAST!r}) < {v} < float32({MOST!r})" for v in (a, b))
    near = f"{a} <= {b} * float32({APART**2}) and {b} <= {a} * float32({APART**2})"
    return f"{bounds} and {near}"


def _lines(depth: int, text: str) -> str:
    return indent(text.strip("\n"), " " * depth)


# ---- the weight ---------------------------------------------------------------------------------

PACK_SPACE = 4 * 4 * WIDTH * WIDTH  # bytes of a thread: a tile of each quarter
PACK = f"""
def pack(args):
    weight = load_int64(args, 0)
    mixed = load_int64(args, 1)
    target = load_int64(args, 2)
    ins = load_int64(args, 3)
    outs = load_int64(args, 4)
    tiles = load_int64(args, 5) + thread_id() * {PACK_SPACE}
    half = ins // 2
    row = ins * 4
    pairs = outs // {2 * PANEL}
    for pair in range(pairs * thread_id() // team_size(), pairs * (thread_id() + 1) // team_size()):
        left = weight + pair * {PANEL} * row
        right = left + outs // 2 * row
        calm = int64(1)
        for j in range({PANEL}):
            a = float32(0)
            b = float32(0)
            for i in range(ins):
                independent()
                v = load_float32(left + j * row, i)
                w = load_float32(right + j * row, i)
                a += v * v
                b += w * w
            if not ({_calm("a", "b")}):
                calm = int64(0)
        store_int64(mixed, pair, calm)
        size = half * {LINE}
        for p in range(0, half, {WIDTH}):
            for j in range(0, {PANEL}, {WIDTH}):
                at = j * row + p * 4
                transpose_tile(left + at, row, tiles, {4 * WIDTH})
                transpose_tile(right + at, row, tiles + {4 * WIDTH**2}, {4 * WIDTH})
                transpose_tile(left + at + half * 4, row, tiles + {8 * WIDTH**2}, {4 * WIDTH})
                transpose_tile(right + at + half * 4, row, tiles + {12 * WIDTH**2}, {4 * WIDTH})
                for r in range({WIDTH}):
                    to = target + pair * {SLOTS} * size + (p + r) * {LINE} + j * 4
                    source = tiles + r * {4 * WIDTH}
                    for i in range({WIDTH}):
                        together()
                        b11 = load_float32(source, i)
                        b12 = load_float32(source, {WIDTH**2} + i)
                        b21 = load_float32(source, {2 * WIDTH**2} + i)
                        b22 = load_float32(source, {3 * WIDTH**2} + i)
                        t1 = b12 - b11
                        if b12 != float32(0) and t1 + b11 == float32(0):
                            ulp = abs(b11) * float32({2.0**-23})
                            t1 = (ulp if b12 > float32(0) else -ulp) - b11
                        t2 = b22 - t1
                        store_float32(to + {B11} * size, i, b11)
                        store_float32(to + {B21} * size, i, b21)
                        store_float32(to + {T2} * size, i, t2)
                        store_float32(to + {T1} * size, i, t1 if calm == 1 else b12)
                        store_float32(to + {T3} * size, i, b22 - b12)
                        store_float32(to + {B22} * size, i, b22)
                        store_float32(to + {T4} * size, i, b21 - t2)
    return 0
"""

# ---- the rows -----------------------------------------------------------------------------------

# Each thread makes those of some rows, and tells whether they may be mixed. It asks for the next
# row: a row is short for the prefetcher, and much lies in another core's cache.
_SUMS = f"""
calm = int64(1)
for r in range(high * thread_id() // team, high * (thread_id() + 1) // team):
    a1 = top + r * row
    a2 = low + r * row
    to = s + r * narrow
    for d in range(row, row + narrow, 64):
        prefetch(a1 + d)
        prefetch(a1 + narrow + d)
        prefetch(a2 + d)
        prefetch(a2 + narrow + d)
    a = float32(0)
    b = float32(0)
    for i in range(half):
        independent()
        a11 = load_float32(a1, i)
        a12 = load_float32(a1 + narrow, i)
        a21 = load_float32(a2, i)
        a22 = load_float32(a2 + narrow, i)
        a += a11 * a11 + a12 * a12
        b += a21 * a21 + a22 * a22
        s1 = a21 + a22
        s2 = s1 - a11
        store_float32(to, i, s1)
        store_float32(to + size, i, s2)
        store_float32(to + 2 * size, i, a11 - a21)
        store_float32(to + 3 * size, i, a12 - s2)
    if not ({_calm("a", "b")}):
        calm = int64(0)
store_int64(table, {_CALM}, calm)
barrier()
for other in range(team):
    calm = min(calm, load_int64(tables + other * space, {_CALM}))
"""

# ---- a product ----------------------------------------------------------------------------------


@cache
def ending(bias: bool, residual: bool, activation: str | None) -> str:
    """What follows on the products, of rows of a panel. A function of its own: among the tiles,
    the constants of an activation would take the registers that their sums need."""
    wanted = ("c_row", "bias", "residual")
    read = "\n".join(f"    {name} = load_int64(args, {_FIELDS.index(name)})" for name in wanted)
    value = "load_float32(line, j)"
    value += " + load_float32(bias, j)" if bias else ""
    value += " + load_float32(residual + (row + r) * c_row, j)" if residual else ""
    return f"""
def ending(args):
{read}
    to = load_int64(args, {_ROWS})
    row = load_int64(args, {_ROWS + 1})
    for r in range(load_int64(args, {_ROWS + 2})):
        line = to + r * c_row
        for j in range({PANEL}):
            together()
            v = {value}
            store_float32(line, j, {ACTIVATIONS[activation].format(v="v")})
    return 0
"""


@cache
def part(bias: bool, residual: bool, activation: str | None) -> str:
    """A panel times so many rows, on the calling thread; see `_FIELDS`."""
    read = reading(*_FIELDS)
    tiles = "\n".join(
        f"if take == {m}:\n    onto_{m}(at, b, to, shape, {PANEL})" for m in range(ROWS, 0, -1)
    )
    end = f"""
if finish == 1 and i + k == deep:
    store_int64(args, {_ROWS}, to)
    store_int64(args, {_ROWS + 1}, row)
    store_int64(args, {_ROWS + 2}, take)
    call1(ending, args)
"""
    asked = ["prefetch_to_write(near + (row + r) * near_row + d)"]
    asked += ["prefetch(near_residual + (row + r) * near_row + d)"] if residual else []
    return f"""
def part(args):
{read}
    shape = args + {8 * _SHAPE}
    store_int64(shape, 0, a_row)
    store_int64(shape, 1, 4)
    store_int64(shape, 2, {LINE})
    store_int64(shape, 3, c_row)
    step = (high + {ROWS - 1}) // {ROWS}
    step = ({LINE - 1} + step) // step
    store_int64(shape, 7, step)
    for i in range(0, deep, {DEPTH}):
        k = min(deep - i, {DEPTH})
        soon = b + k * {LINE}
        store_int64(shape, 4, k)
        store_int64(shape, 5, add)
        store_int64(shape, 9, start_row)
        row = int64(0)
        at = a + i * 4
        to = c
        begin = start
        while row < high:
            take = min(high - row, {ROWS})
            if {ROWS} < high - row < {2 * ROWS - 1}:
                take = (high - row + 1) // 2
            if near != 0 and i + k == deep:
                for r in range(take):
                    for d in range(0, {LINE}, 64):
{_lines(24, chr(10).join(asked))}
            store_int64(shape, 6, soon)
            store_int64(shape, 8, begin)
{_lines(12, tiles)}
{_lines(12, end) if bias or residual or activation else ""}
            soon = min(soon + step * k, end - 4)
            at += a_row * take
            to += c_row * take
            begin += start_row * take
            row += take
        b += k * {LINE}
        add = int64(1)
        start = c
        start_row = c_row
    return 0
"""


def _part(**fields: object) -> str:
    """Lines that set fields and multiply."""
    sets = [f"store_int64(table, {_FIELDS.index(n)}, {v})" for n, v in fields.items()]
    return "\n".join([*sets, "call1(product, table)"])


def _to(place: str, side: str, finish: bool) -> dict[str, object]:
    """Where a product goes: a buffer, or rows of the result on one side."""
    if not place.startswith("c"):
        return {"c": place, "c_row": LINE, "finish": 0, "near": 0}
    to: dict[str, object] = {"c": f"{place} + {side} * 4", "c_row": "line", "near_row": "line"}
    to |= {"near": f"{place} + {side} * 4", "finish": int(finish), "bias": f"bias + {side} * 4"}
    rest = f"rest_{place[2:]} + {side} * 4"
    return to | {"residual": rest, "near_residual": rest}


def _of(place: str) -> dict[str, object]:
    """What a product begins with: a buffer, or nothing."""
    return {"start": place, "start_row": LINE, "add": 1} if place else {"add": 0}


def _seven(finish: str) -> str:
    """The products of a pair of panels."""

    def product(slot: int, a: str, start: str, place: str, side: str = "left") -> str:
        a_row = "narrow" if a.startswith("s") else "row"
        how = {"a": a, "a_row": a_row, "b": f"panel + {slot} * slot"}
        return _part(**how, **_of(start), **_to(place, side, True))

    last = {"near": "c_low + right * 4", "near_residual": "rest_low + right * 4"}
    far = _part(a="s + 2 * size", a_row="narrow", b=f"panel + {T3} * slot", **_of(""), c="p",
                c_row=LINE, finish=0, near_row="line", **last)  # fmt: skip
    both = f"""
for r in range(high):
    to = c_low + r * line + right * 4
    rest = rest_low + r * line + right * 4
    for j in range({PANEL}):
        together()
        w = load_float32(p + r * {LINE}, j)
        store_float32(q + r * {LINE}, j, load_float32(q + r * {LINE}, j) + w)
        v = load_float32(u + r * {LINE}, j) + w{finish}
"""
    return "\n".join(
        [
            f"store_int64(table, {_FIELDS.index('high')}, high)",
            product(B11, "top", "", "q"),
            product(B21, "top + narrow", "q", "c_top"),
            product(T2, "s + size", "q", "q"),
            product(T1, "s", "q", "u"),
            far,
            both.strip("\n"),
            product(B22, "s + 3 * size", "u", "c_top", "right"),
            product(T4, "low + narrow", "q", "c_low"),
        ]
    )


def _four() -> str:
    """The same by the definition, of all rows of the block. B12 is T1 + B11, if it is not there."""

    def product(b: str, side: str, second: bool) -> str:
        to = _to("c_top", side, second)
        start = {"start": to["c"], "start_row": "line", "add": 1} if second else {"add": 0}
        how = {"a": "top + narrow" if second else "top", "a_row": "row", "b": b}
        return _part(**how, **start, **to)

    return "\n".join(
        [
            f"store_int64(table, {_FIELDS.index('high')}, count)",
            product(f"panel + {B11} * slot", "left", False),
            product(f"panel + {B21} * slot", "left", True),
            f"b12 = panel + {T1} * slot",
            "if load_int64(mixed, pair) == 1:",
            f"    for i in range(half * {PANEL}):",
            "        independent()",
            "        store_float32(restored, i, load_float32(b12, i) + load_float32(panel, i))",
            "    b12 = restored",
            product("b12", "right", False),
            product(f"panel + {B22} * slot", "right", True),
        ]
    )


@cache
def source(bias: bool, residual: bool, activation: str | None) -> str:
    """The kernel. Blocks of rows, one after the other; the threads share the sums, then panels."""
    value = " + load_float32(bias + right * 4, j)" if bias else ""
    value += " + load_float32(rest, j)" if residual else ""
    value += f"\n        store_float32(to, j, {ACTIVATIONS[activation].format(v='v')})"
    return f"""
def linear(args):
    x = load_int64(args, 0)
    mixed = load_int64(args, 1)
    weight = load_int64(args, 2)
    bias = load_int64(args, 3)
    residual = load_int64(args, 4)
    out = load_int64(args, 5)
    rows = load_int64(args, 6)
    ins = load_int64(args, 7)
    outs = load_int64(args, 8)
    blocks = load_int64(args, 9)
    buffer = load_int64(args, 10)
    product = load_int64(args, 11)
    s = load_int64(args, 13)
    tables = load_int64(args, 14)
    space = load_int64(args, 15)
    team = team_size()
    table = tables + thread_id() * space
    q = table + {TABLE}
    u = q + buffer
    p = u + buffer
    restored = p + buffer
    half = ins // 2
    row = ins * 4
    narrow = half * 4
    line = outs * 4
    slot = half * {LINE}
    pairs = outs // {2 * PANEL}
    first = pairs * thread_id() // team
    last = pairs * (thread_id() + 1) // team
    store_int64(table, {_FIELDS.index("deep")}, half)
    store_int64(table, {_FIELDS.index("ending")}, load_int64(args, 12))
    store_int64(table, {_FIELDS.index("end")}, weight + pairs * {SLOTS} * slot)
    for block in range(blocks):
        begin = rows * block // blocks
        count = rows * (block + 1) // blocks - begin
        high = (count + 1) // 2
        size = high * narrow
        top = x + begin * row
        low = top + (count - high) * row
        c_top = out + begin * line
        c_low = c_top + (count - high) * line
        rest_top = residual + begin * line
        rest_low = rest_top + (count - high) * line
{_lines(8, _SUMS)}
        for pair in range(first, last):
            left = pair * {PANEL}
            right = left + outs // 2
            panel = weight + pair * {SLOTS} * slot
            if calm == 1 and load_int64(mixed, pair) == 1:
{_lines(16, _seven(value))}
            else:
{_lines(16, _four())}
        if block + 1 < blocks:
            barrier()
    return 0
"""
