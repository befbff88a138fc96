"""Matrices packed in panels of nearly even widths, as copies that operators share.

A tile one vector wide has too few sums to wait for one another: its products take a third longer.
So no panel of a wide matrix is so narrow: 25 vectors are 4 + 4 + 4 + 4 + 3 + 3 + 3, not 6 x 4 + 1.
Where tiles are but two vectors wide nothing can be evened out, and all panels but the last are.

The panel that begins at column o begins k * o elements into the copy; its rows are whole vectors,
zeros behind the last column.
"""

from __future__ import annotations

from functools import cache
from textwrap import indent

from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.tile_sizes import PANEL, VECTORS, WIDTH
from noria.kernels.registry import Array, Pack

NARROW = PANEL - WIDTH if VECTORS > 2 else PANEL  # columns of panels that make others wide enough
# Vectors left that are not to begin with a whole panel.
_EVEN = [v for v in (VECTORS + 1, 2 * VECTORS - 2, 3 * VECTORS - 3) if NARROW < PANEL]


def next_panel(columns: str, o: str, end: str) -> list[str]:
    """Lines that set how many columns the panel has that begins at column `o` of `end`."""
    lines = [f"{columns} = min({end} - {o}, {PANEL})"]
    if _EVEN:
        left = f"({end} - {o} + {WIDTH - 1}) // {WIDTH}"
        lines += [
            f"if {' or '.join(f'{left} == {v}' for v in _EVEN)}:",
            f"    {columns} = {NARROW}",
        ]
    return lines


def row_bytes(columns: str) -> str:
    """Text of the bytes of a row of a panel."""
    return f"({columns} + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH}"


def packed_bytes(k: int, n: int) -> int:
    """Bytes of a packed [k, n] matrix."""
    return -(-n // WIDTH) * WIDTH * k * 4


def pack(weight: Array, position: int, turned: bool, threads: int) -> Pack:
    """A weight [ins, outs], or [outs, ins] if turned."""
    ins, outs = weight.shape[::-1] if turned else weight.shape
    text, nbytes = _source(turned), packed_bytes(ins, outs)

    def emit(address: int, copy: int) -> list[Call]:
        table, work = [address, copy, ins, outs], {"threads": threads, "bytes": 2 * nbytes}
        return [launch("numba:even_panels", text, "panels", table, **work)]

    return Pack(position, ("even panels", PANEL, turned), nbytes, emit, replaces=True)


# A weight that was updated since comes from memory, in pieces too short to be foreseen: so those of
# the next squares, or rows, are asked for.
# The memory of a column runs along k: squares are turned in registers.
_TURNED = f"""
across = columns - columns % {WIDTH}
for j in range(0, across, {WIDTH}):
    from_ = source + (o + j) * k * 4
    for p in range(low, whole, {WIDTH}):
        for l in range({WIDTH}, {2 * WIDTH}):
            prefetch(from_ + (l * k + p) * 4)
        transpose_tile(from_ + p * 4, k * 4, to + p * row + j * 4, row)
    for p in range(whole, high):
        for l in range({WIDTH}):
            store_float32(to + p * row, j + l, load_float32(from_ + l * k * 4, p))
for j in range(across, columns):
    for p in range(low, high):
        store_float32(to + p * row, j, load_float32(source + (o + j) * k * 4, p))
"""
_ALONG = f"""
if columns == {PANEL}:
    for p in range(low, high):
        for line in range(0, {4 * PANEL}, 64):
            prefetch(source + ((p + {WIDTH}) * n + o) * 4 + line)
        copy_bytes(to + p * row, source + (p * n + o) * 4, {4 * PANEL})
else:
    for p in range(low, high):
        copy_bytes(to + p * row, source + (p * n + o) * 4, columns * 4)
"""


@cache
def _source(turned: bool) -> str:
    """Each thread packs some rows of all panels."""
    work = indent((_TURNED if turned else _ALONG).strip(), " " * 8)
    following = indent("\n".join(next_panel("columns", "o", "n")), " " * 8)
    return f"""
def panels(args):
    source = load_int64(args, 0)
    target = load_int64(args, 1)
    k = load_int64(args, 2)
    n = load_int64(args, 3)
    squares = (k + {WIDTH - 1}) // {WIDTH}
    low = squares * thread_id() // team_size() * {WIDTH}
    high = min(squares * (thread_id() + 1) // team_size() * {WIDTH}, k)
    whole = high - high % {WIDTH}
    o = int64(0)
    while o < n:
{following}
        row = {row_bytes("columns")}
        to = target + o * k * 4
{work}
        if row > columns * 4:
            for p in range(low, high):
                fill_bytes(to + p * row + columns * 4, 0, row - columns * 4)
        o += columns
    return 0
"""
