"""Matrix products inside kernels: C = A B or C += A B in float32, at the speed of the registers.

For kernels that need many small products between other work (a step of a recurrence, a block of
attention), where a call of a library for each would cost more than the product. A kernel gets the
address of `product()` (and `packer()`) in its table and calls it with `call1` on a table of its
own, one for each thread; between two calls it changes only the fields that differ.

- A may have any strides, so a transposed A costs nothing.
- B is read in panels of PANEL columns, whose rows may lie anywhere: packed panels, or a row-major B
  as it is (`b_panel` = 4 PANEL, `b_row` = its row). Padding columns of a packed B are zero.
- C has rows of contiguous elements.
- Products of bfloat16 (`pairs`, where the CPU has them: `tile_sizes.PAIRS`) take words of two
  numbers that follow each other in k, of A and of B alike; K counts words, C stays float32.

Serial: a team shares the work by giving each thread its rows or columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.launch import launch
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH

# Fields of the table of a product; strides in bytes. The tiles read from A_ROW to ACCUMULATE.
A, B, B_PANEL, C, M, N, A_ROW, A_STEP, B_ROW, C_ROW, K, ACCUMULATE = range(12)
FIELDS = 12
AHEAD_FIELDS = FIELDS + 2  # of a table of `product(ahead=True)`, which sets the last two itself
NEAR = FIELDS  # of `product(near=...)`: how far from C lies what is asked for
MOST_NEAR = 4
# Fields of the table of a packing: SOURCE [K, N] by strides in bytes to panels of [K, PANEL].
SOURCE, SOURCE_ROW, SOURCE_STEP, TARGET, PACK_K, PACK_N = range(6)
PACK_FIELDS = 6


@cache
def product(
    ahead: bool = False, near: int = 0, even: bool = False, *, pairs: bool = False
) -> NativeFunction:
    """C[m, n] = or += A[m, k] B[k, n], on the calling thread; see the fields above.

    ahead: for a few rows and a packed B that comes from memory: while a panel is multiplied, the
           next one, or what lies behind the last, is asked for. A table has AHEAD_FIELDS then
    near:  for others: how many matrices with the rows of C are needed when the product is there,
           and are asked for meanwhile. How far from C each lies is in the fields from NEAR on
    even:  for one panel of `even_panels` at a time: those a vector narrower are whole tiles, too
    pairs: A and B are words of two bfloat16; none of the above
    """
    return jit.compile_source(_product_source(ahead, near, even, pairs), "product")


def packer() -> NativeFunction:
    """Copies a [k, n] matrix of any strides into panels, the last one padded with zeros."""
    return jit.compile_source(_PACK, "pack")


def row_packer() -> NativeFunction:
    """Copies a [k, n] matrix of bfloat16, rows of contiguous elements, into panels of words of two
    rows, the last word perhaps half empty. Fields: source, its row, target, k, n."""
    return jit.compile_source(_PACK_ROWS, "pack_rows")


def packing(name: str, table: Sequence[int], threads: int = 1) -> Call:
    """The row of a tape that packs, the panels dealt to a team; see the fields above."""
    if threads == 1:
        return launch(name, _PACK, "pack", table, threads=1)
    function = packer()
    team = max(threads, thread_count())
    space = [function.address, *[0] * (PACK_FIELDS * team)]
    moved = 8 * table[PACK_K] * table[PACK_N]
    call = launch(name, _SHARE, "share", [*table, *space], threads=threads, bytes=moved)
    call.keep = (call.keep, function)
    return call


def packed_bytes(k: int, n: int) -> int:
    """Bytes of a packed [k, n] matrix."""
    return -(-n // PANEL) * PANEL * k * 4


def _rows(indent: str, name: str, columns: str, near: int, whole: str = "") -> str:
    """Calls of the tiles over the rows i .. m of one panel; `name` has {m} for their rows.

    whole: the tile for ROWS rows, if it is another
    """
    places = [
        (d, m, at) for d in range(near) for m in range(ROWS) for at in range(0, 4 * PANEL, 64)
    ]
    lines = [
        "at = a",
        "to = panel_c",
        "i = 0",
        f"while i + {ROWS} <= m:",
        *(f"    prefetch(to + near{d} + {m} * c_row + {at})" for d, m, at in places),
        f"    {whole or name.format(m=ROWS)}(at, panel, to, shape, {columns})",
        f"    at += a_row * {ROWS}",
        f"    to += c_row * {ROWS}",
        f"    i += {ROWS}",
        "rest = m - i",
    ]
    for m in range(1, ROWS):
        lines += [f"if rest == {m}:", f"    {name.format(m=m)}(at, panel, to, shape, {columns})"]
    return "\n".join(indent + line for line in lines)


# Beside each row of a panel a line of the next one is asked for, so that all of them need as many
# tiles as a row has lines.
_LINE = 64
_TILES = 4 * PANEL // _LINE


def _rows_ahead(indent: str) -> str:
    """The same as `_rows` of whole panels, in at least _TILES tiles where there are rows enough."""
    lines = [
        "at = a",
        "to = panel_c",
        "soon = panel + b_panel",
        f"left = max((m + {ROWS - 1}) // {ROWS}, min(m, {_TILES}))",
        f"step = min({_LINE}, ({4 * PANEL} + max(left, 1) - 1) // max(left, 1))",
        "i = 0",
        "store_int64(shape, 7, step)",
        "while left > 0:",
        "    take = (m - i + left - 1) // left",
        "    store_int64(shape, 6, soon)",
    ]
    for m in range(1, ROWS + 1):
        lines += [f"    if take == {m}:", f"        ahead_{m}(at, panel, to, shape, {PANEL})"]
    lines += [
        "    soon += step * load_int64(shape, 4)",
        "    at += a_row * take",
        "    to += c_row * take",
        "    i += take",
        "    left -= 1",
    ]
    return "\n".join(indent + line for line in lines)


def _product_source(ahead: bool, near: int, even: bool, pairs: bool) -> str:
    tile, part = ("dots", "pairs") if pairs else ("tile", "tile")
    whole = _rows_ahead(" " * 8) if ahead else _rows(" " * 8, tile + "_{m}", str(PANEL), near)
    narrow = ""
    if even:
        name = f"tile_{{m}}_{VECTORS - 1}"
        walk = _rows(" " * 8, name, str(PANEL - WIDTH), near, f"narrow_{ROWS}")
        narrow = f"    if columns == {PANEL - WIDTH}:\n{walk}\n        return 0\n"
    cut = "\n".join(
        f"        if vectors == {v}:\n{_rows(' ' * 12, part + '_{m}_' + str(v), 'columns', near)}"
        for v in range(1, VECTORS + 1)
    )
    asked = "".join(f"\n    near{d} = load_int64(args, {NEAR + d})" for d in range(near))
    return f"""
def product(args):
    a = load_int64(args, {A})
    panel = load_int64(args, {B})
    b_panel = load_int64(args, {B_PANEL})
    panel_c = load_int64(args, {C})
    m = load_int64(args, {M})
    columns = load_int64(args, {N})
    shape = args + {8 * A_ROW}
    a_row = load_int64(args, {A_ROW})
    c_row = load_int64(args, {C_ROW}){asked}
    while columns >= {PANEL}:
{whole}
        panel += b_panel
        panel_c += {4 * PANEL}
        columns -= {PANEL}
{narrow}    if columns > 0:
        vectors = (columns + {WIDTH - 1}) // {WIDTH}
{cut}
    return 0
"""


_SHARE = f"""
def share(args):
    step = load_int64(args, {SOURCE_STEP})
    k = load_int64(args, {PACK_K})
    n = load_int64(args, {PACK_N})
    table = args + {8 * (PACK_FIELDS + 1)} + thread_id() * {8 * PACK_FIELDS}
    panels = (n + {PANEL - 1}) // {PANEL}
    first = panels * thread_id() // team_size()
    last = panels * (thread_id() + 1) // team_size()
    store_int64(table, {SOURCE}, load_int64(args, {SOURCE}) + first * {PANEL} * step)
    store_int64(table, {SOURCE_ROW}, load_int64(args, {SOURCE_ROW}))
    store_int64(table, {SOURCE_STEP}, step)
    store_int64(table, {TARGET}, load_int64(args, {TARGET}) + first * {4 * PANEL} * k)
    store_int64(table, {PACK_K}, k)
    store_int64(table, {PACK_N}, min(last * {PANEL}, n) - first * {PANEL})
    return call1(load_int64(args, {PACK_FIELDS}), table)
"""

_PACK_ROWS = f"""
def pack_rows(args):
    source = load_int64(args, 0)
    row = load_int64(args, 1)
    target = load_int64(args, 2)
    k = load_int64(args, 3)
    n = load_int64(args, 4)
    for first in range(0, n, {PANEL}):
        columns = min(n - first, {PANEL})
        low = source + first * 2
        for p in range(0, k - 1, 2):
            high = low + row
            for j in range(columns):
                independent()
                store_uint32(target, j, pair(load_uint16(low, j), load_uint16(high, j)))
            fill_bytes(target + columns * 4, 0, ({PANEL} - columns) * 4)
            target += {4 * PANEL}
            low += 2 * row
        if k % 2 != 0:
            for j in range(columns):
                independent()
                store_uint32(target, j, pair(load_uint16(low, j), uint16(0)))
            fill_bytes(target + columns * 4, 0, ({PANEL} - columns) * 4)
            target += {4 * PANEL}
    return 0
"""

_PACK = f"""
def pack(args):
    source = load_int64(args, {SOURCE})
    row = load_int64(args, {SOURCE_ROW})
    step = load_int64(args, {SOURCE_STEP})
    target = load_int64(args, {TARGET})
    k = load_int64(args, {PACK_K})
    n = load_int64(args, {PACK_N})
    whole = k - k % {WIDTH}
    for first in range(0, n, {PANEL}):
        columns = min(n - first, {PANEL})
        panel = source + first * step
        across = 0
        if row == 4 and step != 4:
            across = columns - columns % {WIDTH}
            for j in range(0, across, {WIDTH}):
                for p in range(0, whole, {WIDTH}):
                    transpose_tile(
                        panel + j * step + p * 4, step, target + (p * {PANEL} + j) * 4, {4 * PANEL}
                    )
                for p in range(whole, k):
                    for l in range({WIDTH}):
                        x = load_float32(panel + (j + l) * step, p)
                        store_float32(target, p * {PANEL} + j + l, x)
        if step == 4:
            for p in range(k):
                line = panel + p * row
                for j in range(columns):
                    independent()
                    store_float32(target, p * {PANEL} + j, load_float32(line, j))
        else:
            for p in range(k):
                line = panel + p * row
                for j in range(across, columns):
                    store_float32(target, p * {PANEL} + j, load_float32(line + j * step, 0))
        if columns < {PANEL}:
            for p in range(k):
                for j in range(columns, {PANEL}):
                    store_float32(target, p * {PANEL} + j, float32(0))
        target += k * {4 * PANEL}
    return 0
"""
