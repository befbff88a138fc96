"""Source of the kernel of a convolution by register tiles (`conv.py`)."""

from __future__ import annotations

import re
from functools import cache
from textwrap import indent

from noria.kernels.numba import conv_pixels, conv_sizes
from noria.kernels.numba.conv_sizes import AHEAD, CHANNELS, FIELDS, PIXELS, SHIFT
from noria.kernels.numba.tile_sizes import WIDTH

_ARGS = """
    x = load_int64(args, 0)
    w = load_int64(args, 1)
    bias = load_int64(args, 2)
    residual = load_int64(args, 3)
    out = load_int64(args, 4)
    space = load_int64(args, 5)
    blocks = load_int64(args, 6)
    pairs = load_int64(args, 7)
    shares = load_int64(args, 8)
    lists = load_int64(args, 9)
    channels = load_int64(args, 10)
    panel_bytes = load_int64(args, 11)
    chunk = load_int64(args, 12)
    all_runs = load_int64(args, 13)
    some_runs = load_int64(args, 14)
    some = load_int64(args, 15)
    run_x = load_int64(args, 16)
    run_w = load_int64(args, 17)
    planes = load_int64(args, 18)
    plane_x = load_int64(args, 19)
    plane_w = load_int64(args, 20)
"""
_NAMES = ("in_at", "out_at", "first_pair", "pixels", "tap", "lead", "count", "runs")
_BLOCK = "\n".join(f"{name} = load_int64(block, {i})" for i, name in enumerate(_NAMES))
_BLOCK_BYTES = 8 * conv_pixels.COLUMNS

# The part of a panel that the rows `row` .. `row_end` of taps are, for one block.
_PART = f"""
block = blocks + which * {_BLOCK_BYTES}
{_BLOCK}
low = max(row, lead)
high = min(row_end, lead + runs)
if low < high or (runs == 0 and row == 0):
    store_int64(table, RUNS, max(high - low, 0))
    to = out + out_at + panel * LINE
    start = to
    added = int64(0)
    if low == lead or runs == 0:
        start = int64(0)
        if residual != 0:
            start = residual + out_at + panel * LINE
        if bias != 0:
            added = bias + panel * LINE
    for number in range(0, max(count, 1), some):
        now = min(some, count - number)
        store_int64(table, COUNT, now)
        store_int64(table, START, start)
        store_int64(table, BIAS, added)
        store_int64(table, LAST, int64(high >= lead + runs and number + some >= count))
        part_x = x + in_at + (low - lead) * run_x + number * 4
        part_w = w + panel * panel_bytes + tap + low * run_w + number * LINE
        step = (now * LINE * max(high - low, 0)) >> shift
        ahead = following + tap + number * LINE - (part_w >> shift)
        final = ahead + (step << shift) - step
        start = to
        added = int64(0)
TILES
"""


def _tiles(vectors: int, act: str, prefix: str) -> str:
    """All pixels of a block, as many at a time as fit the registers."""
    most = PIXELS[vectors]
    call = f"{prefix}pixel_tile_{{m}}_{vectors}_{act}(part_x, part_w, to, at, table)"
    lines = [
        "at = pairs + first_pair",
        "left = pixels",
        f"while left >= {most}:",
        f"    store_int64(table, {AHEAD}, ahead)",
        "    ahead = min(ahead + step, final)",
        f"    {call.format(m=most)}",
        f"    at += {16 * most}",
        f"    left -= {most}",
        f"store_int64(table, {AHEAD}, ahead)",
    ]
    for m in range(1, most):
        lines += [f"if left == {m}:", f"    {call.format(m=m)}"]
    return "\n".join(lines)


@cache
def source(vectors: int, act: str, cut: bool) -> str:
    """Source of the kernel: for panels of so many vectors, with the activation `act`.

    cut: the last panel is not full
    """
    width = vectors * WIDTH
    tiles = _tiles(vectors, act, "")
    if cut:
        some = indent(_tiles(vectors, act, "cut_"), " " * 4)
        tiles = f"if columns == {width}:\n{indent(tiles, ' ' * 4)}\nelse:\n{some}"
    part = _PART.replace("TILES", indent(tiles, " " * 8))
    for name in ("RUNS", "COUNT", "START", "BIAS", "LAST"):
        part = re.sub(rf"\b{name}\b", str(getattr(conv_sizes, name)), part)
    part = part.replace("LINE", str(4 * width))
    return f"""
def conv(args):{_ARGS}
    me = thread_id()
    table = space + me * {8 * FIELDS}
    store_int64(table, {conv_sizes.RUN_X}, run_x)
    store_int64(table, {conv_sizes.RUN_W}, run_w)
    store_int64(table, {conv_sizes.PLANES}, planes)
    store_int64(table, {conv_sizes.PLANE_X}, plane_x)
    store_int64(table, {conv_sizes.PLANE_W}, plane_w)
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
            tiles = tiles // {4 * PIXELS[vectors]}
            shift = int64(2)
            while tiles >= 2:
                tiles = tiles >> 1
                shift += 1
            store_int64(table, {SHIFT}, shift)
            for panel in range(first_panel, last_panel):
                columns = min(channels - panel * {width}, {width})
                store_int64(table, {CHANNELS}, columns)
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
{indent(part, " " * 24)}
    return 0
"""
