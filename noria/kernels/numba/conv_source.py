"""Sources of the kernels of a convolution by register tiles (`conv.py`): one for all that goes by
panels, blocks and taps, and one for each size of tile, which the first calls by address."""

from __future__ import annotations

import re
from functools import cache
from textwrap import indent

from noria.kernels.numba import conv_pixels, conv_sizes
from noria.kernels.numba.conv_sizes import FIELDS, tile_name
from noria.kernels.numba.texts import reading

_ARGS = reading("""
    x w bias residual out space blocks pairs shares lists
    channels panel_bytes chunk all_runs some_runs some run_x run_w
    planes plane_x plane_w line most walks low_bound high_bound bounded
""")
_COLUMNS = ("in_at", "out_at", "first_pair", "pixels", "tap", "lead", "count", "runs")
_BLOCK = "\n".join(f"{name} = load_int64(block, {i})" for i, name in enumerate(_COLUMNS))
_BLOCK_BYTES = 8 * conv_pixels.COLUMNS

# The part of a panel that the rows `row` .. `row_end` of taps are, for one block: as many whole
# tiles as there are, then one of the pixels that are left.
_PART = f"""
block = blocks + which * {_BLOCK_BYTES}
{_BLOCK}
SPLIT
low = max(row, lead)
high = min(row_end, lead + runs)
if low < high or (runs == 0 and row == 0):
    store_int64(table, RUNS, max(high - low, 0))
    to = out + out_at + panel * (line >> HALF)
    store_int64(table, OUT, to)
    start = to
    added = int64(0)
    if low == lead or runs == 0:
        start = int64(0)
        if residual != 0:
            start = residual + out_at + panel * (line >> HALF)
        if bias != 0:
            added = bias + panel * line
    turns = pixels // most
    left = pixels - turns * most
    for number in range(0, max(count, 1), some):
        now = min(some, count - number)
        last = high >= lead + runs and number + some >= count
        part_w = w + panel * panel_bytes + tap + low * run_w + number * line
        step = ((now + single) * line * max(high - low, 0)) >> shift
        ahead = following + tap + number * line - (part_w >> shift)
        final = ahead + (step << shift) - step
        store_int64(table, COUNT, now)
        store_int64(table, SINGLE, single)
        store_int64(table, START, start)
        store_int64(table, BIAS, added)
        store_int64(table, LAST, int64(last and bounded != 0))
        store_int64(table, X, x + in_at + (low - lead) * run_x + number * 4)
        store_int64(table, W, part_w)
        store_int64(table, STEP, step)
        store_int64(table, FINAL, final)
        store_int64(table, AT, pairs + first_pair)
        store_int64(table, TURNS, turns)
        store_int64(table, SOON, ahead)
        if turns > 0:
            call1(load_int64(mine, most), table)
        if left > 0:
            store_int64(table, AT, pairs + first_pair + 16 * turns * most)
            store_int64(table, TURNS, 1)
            store_int64(table, SOON, min(ahead + turns * step, final))
            call1(load_int64(mine, left), table)
        start = to
        added = int64(0)
"""


def _numbered(text: str) -> str:
    """Fields of a tile's table by their numbers."""
    return re.sub(r"\b[A-Z_]+\b", lambda m: str(getattr(conv_sizes, m.group())), text)


_SOURCE = f"""
def conv(args):
{_ARGS}
    me = thread_id()
    table = space + me * {8 * FIELDS}
    store_int64(table, RUN_X, run_x)
    store_int64(table, RUN_W, run_w)
    store_int64(table, PLANES, planes)
    store_int64(table, PLANE_X, plane_x)
    store_int64(table, PLANE_W, plane_w)
    store_int64(table, LOW, low_bound)
    store_int64(table, HIGH, high_bound)
    for share in range(me, lists, team_size()):
        first_block = load_int64(shares, 4 * share)
        last_block = load_int64(shares, 4 * share + 1)
        first_panel = load_int64(shares, 4 * share + 2)
        last_panel = load_int64(shares, 4 * share + 3)
        for begin in range(first_block, last_block, chunk):
            end = min(begin + chunk, last_block)
            tiles = int64(0)
            for which in range(begin, end):
                tiles += load_int64(blocks + which * {_BLOCK_BYTES}, {conv_pixels.PIXELS})
            tiles = tiles // (4 * most)
            shift = int64(2)
            while tiles >= 2:
                tiles = tiles >> 1
                shift += 1
            store_int64(table, SHIFT, shift)
            for panel in range(first_panel, last_panel):
                columns = min(channels - panel * (line >> 2), line >> 2)
                store_int64(table, CHANNELS, columns)
                mine = walks
                if columns * 4 < line:
                    mine += 8 * (most + 1)
                for row in range(0, all_runs, some_runs):
                    row_end = row + some_runs
                    following = w + panel * panel_bytes
                    if row_end < all_runs:
                        following += row_end * run_w
                    elif panel + 1 == last_panel:
                        following = w + first_panel * panel_bytes
                    else:
                        following += panel_bytes
                    for which in range(begin, end):
PART
    return 0
"""


@cache
def conv(half: bool) -> str:
    """Source of `conv`. half: of bfloat16, by pairs, of which a panel is never used in parts."""
    split = "single = count & 1\ncount = count >> 1" if half else "single = int64(0)"
    part = indent(_PART.replace("SPLIT", split), " " * 24)
    return _numbered(_SOURCE.replace("PART", part).replace("HALF", str(int(half))))


@cache
def tiles(pixels: int, vectors: int, cut: bool, half: bool) -> str:
    """Source of `tiles`, which walks tiles of so many pixels and vectors; its table is theirs.

    cut: the panel is not full; half: of bfloat16
    """
    return _numbered(f"""
def tiles(args):
    x = load_int64(args, X)
    w = load_int64(args, W)
    out = load_int64(args, OUT)
    at = load_int64(args, AT)
    ahead = load_int64(args, SOON)
    step = load_int64(args, STEP)
    final = load_int64(args, FINAL)
    for turn in range(load_int64(args, TURNS)):
        store_int64(args, AHEAD, ahead)
        ahead = min(ahead + step, final)
        {tile_name(pixels, vectors, cut, half)}(x, w, out, at, args)
        at += {16 * pixels}
    return 0
""")
