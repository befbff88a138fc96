"""Text of the gradient of a convolution by its weight; see `conv_weight_grad`."""

from __future__ import annotations

from functools import cache
from textwrap import indent

from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.tap_lines import TURN_TAPS, space_bytes
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH

GROUP = 4 * ROWS  # bytes of a step in a group
MOVE = 32  # bytes moved at a time: the least vector that holds a group, as few cross a line
BY_PIXELS, BY_OUTPUTS, BY_PANELS = range(3)  # how threads share the work

_READ = reading("""
    x gradient sums out scratch room how depth multiply
    pixels ins outs taps high wide out_high out_wide taps_wide
    stride_high stride_wide pad_high pad_wide step_high step_wide
""")

# Groups of the gradient of the block: [group][step][ROWS]. More is moved than a group has; what
# is too much of it is written over by the next step, at last into a gap between groups.
PACK_GRADIENT = f"""
for step in range(steps):
LINE
    to = left + step * {GROUP}
    for group in range(first_group, fast_groups):
        copy_bytes(to, row + group * {GROUP}, {MOVE})
        to += next_group
    for group in range(fast_groups, whole_groups):
        copy_bytes(to, row + group * {GROUP}, {GROUP})
        to += next_group
    if whole_groups < last_group:
        copy_bytes(to, row + whole_groups * {GROUP}, (outs - whole_groups * {ROWS}) * 4)
"""
_ONE_PIXEL = "    row = gradient + (begin + step) * outs * 4"
# Two pixels, and zeros behind the last one of an odd number.
_TWO_PIXELS = f"""
    row = line
    low = gradient + (begin + 2 * step) * outs * 2
    some = range(first_group * {ROWS}, min(outs, last_group * {ROWS}))
    if 2 * step + 1 < k:
        for o in some:
            independent()
            store_uint32(line, o, pair(load_uint16(low, o), load_uint16(low + outs * 2, o)))
    else:
        for o in some:
            independent()
            store_uint32(line, o, pair(load_uint16(low, o), uint16(0)))
""".strip("\n")

# A panel of x, [pixel][PANEL], as a tap sees it from the pixels of the block.
_PACK_X = """
to = PLACE
pixel = begin
while pixel < begin + k:
    line_of_image = pixel // out_wide
    ow = pixel - line_of_image * out_wide
    count = min(out_wide - ow, begin + k - pixel)
    image = line_of_image // out_high
    ih = (line_of_image - image * out_high) * stride_high + down
    inside = (image * high + ih) * wide
    first = min(max(ow, near), ow + count)
    end = max(min(ow + count, far), first)
    if ih < 0 or ih >= high:
        first = end = ow + count
    source = x + ((inside + first * stride_wide + across) * ins + column) * ITEM
    fill_bytes(to, 0, (first - ow) * ROW)
    to += (first - ow) * ROW
    if columns == PANEL:
        for i in range(first, end):
            copy_bytes(to, source, ROW)
            source += stride_wide * ins * ITEM
            to += ROW
    else:
        for i in range(first, end):
            copy_bytes(to, source, columns * ITEM)
            source += stride_wide * ins * ITEM
            to += ROW
    fill_bytes(to, 0, (ow + count - end) * ROW)
    to += (ow + count - end) * ROW
    pixel += count
""".replace("PANEL", str(PANEL))
_PAIR_X = f"""
fill_bytes(to, 0, {2 * PANEL})
low = wings
next_row = {2 * PANEL}
PAIRS
"""
_PAIRS = f"""
for step in range(steps):
    to = right + step * {4 * PANEL}
    for c in range(0, {2 * PANEL}, {4 * WIDTH}):
        pair_lanes(low + c, low + next_row + c, to + 2 * c, to + 2 * c + {4 * WIDTH})
    low += 2 * next_row
"""
# Where pixels lie as the only tap sees them, they are paired as they lie.
_PAIR_DENSE = f"""
if dense and columns == {PANEL} and k % 2 == 0:
    low = x + (begin * ins + column) * 2
    next_row = ins * 2
PAIRS
else:
WINGS
"""

# Table of `multiply`: what the tiles read (to SOON_STEP: a line of memory asked for at each step),
# to where they ask, the part of memory that is asked for then, and what walks them over the groups
# of a panel.
A_ROW, A_STEP, B_ROW, C_ROW, K, ACCUMULATE, SOON, SOON_STEP = range(8)
SOON_END, THEN, THEN_END, LEFT, RIGHT, TO, GROUPS, REST = range(8, 16)
NEXT_GROUP, COLUMNS = range(16, 18)
FIELDS = 24


def _walk(name: str, columns: str, whole: str = "") -> str:
    """Calls of the tiles over all groups of a panel; `name` has {m} for their rows.

    whole: the tile for whole groups, if it is another
    """
    lines = [
        "while group < groups:",
        f"    {whole or name.format(m=ROWS)}(at, right, to, args, {columns})",
        "    at += next_group",
        f"    to += {ROWS} * c_row",
        "    soon = min(soon + step, end)",
        "    if soon == end and then != 0:",
        "        soon = then",
        f"        end = load_int64(args, {THEN_END})",
        f"        store_int64(args, {SOON_END}, end)",
        f"        store_int64(args, {THEN}, 0)",
        "        then = 0",
        f"    store_int64(args, {SOON}, soon)",
        "    group += 1",
    ]
    for m in range(1, ROWS):
        lines += [f"if rest == {m}:", f"    {name.format(m=m)}(at, right, to, args, {columns})"]
    return "\n".join(lines)


# One panel times all groups. A function of its own: within a larger one LLVM spills the sums.
_MULTIPLY = f"""
def multiply(args):
    at = load_int64(args, {LEFT})
    right = load_int64(args, {RIGHT})
    to = load_int64(args, {TO})
    groups = load_int64(args, {GROUPS})
    rest = load_int64(args, {REST})
    next_group = load_int64(args, {NEXT_GROUP})
    c_row = load_int64(args, {C_ROW})
    columns = load_int64(args, {COLUMNS})
    soon = load_int64(args, {SOON})
    end = load_int64(args, {SOON_END})
    then = load_int64(args, {THEN})
    step = load_int64(args, {SOON_STEP}) * load_int64(args, {K})
    group = 0
    if columns == {PANEL}:
WHOLE
        return 0
NARROW
    vectors = (columns + {WIDTH - 1}) // {WIDTH}
CUT
    return 0
"""


@cache
def multiply(dtype: str) -> str:
    """Text of the product of one panel and all groups."""
    whole, some = ("ahead", "tile") if dtype == "float32" else ("pairs", "pairs")
    cut = "\n".join(
        f"if vectors == {v}:\n{indent(_walk(f'{some}_{{m}}_{v}', 'columns'), '    ')}"
        for v in range(1, VECTORS + 1)
    )
    narrow = ""
    if dtype == "float32" and VECTORS > 2:
        walk = _walk(f"tile_{{m}}_{VECTORS - 1}", str(PANEL - WIDTH), f"narrow_ahead_{ROWS}")
        narrow = f"if columns == {PANEL - WIDTH}:\n{indent(walk, '    ')}\n    return 0"
    text = _MULTIPLY.replace("WHOLE", indent(_walk(f"{whole}_{{m}}", str(PANEL)), " " * 8))
    text = text.replace("NARROW\n", indent(narrow, "    ") + "\n")
    return text.replace("CUT", indent(cut, "    "))


# Of several panels the last ones are a vector narrower where the very last would be narrower still:
# too few sums wait for one another.
_NARROW = f"""per_tap * {VECTORS} - (ins + {WIDTH - 1}) // {WIDTH}
    if narrow > per_tap:
        narrow = int64(0)"""
# Where every pixel of x counts, and its channels are whole lines of memory of which those of a
# panel spread over the first cache, it is multiplied as it lies.
_LIES = """(taps == 1 and high == 1 and wide == pixels and out_wide == pixels
            and stride_wide == 1 and pad_wide == 0 and x % 64 == 0
            and ins % 16 == 0 and ins // 16 % 8 != 0)"""

_SOURCE = f"""
def weight_grad(args):
{_READ}
    me = thread_id()
    team = team_size()
    shape = scratch + me * room
    right = shape + {8 * FIELDS}
    line = right + (depth + STEP - 1) // STEP * {4 * PANEL}
    wings = line + LINES
    left = wings + WINGS
    per_tap = (ins + {PANEL - 1}) // {PANEL}
    narrow = EVENED
    lies = LIES
    first_pixel = 0
    last_pixel = pixels
    first_group = 0
    last_group = (outs + {ROWS - 1}) // {ROWS}
    first_panel = 0
    last_panel = taps * per_tap
    total = outs * taps * ins
    target = sums
    if how == {BY_PIXELS}:
        first_pixel = pixels * me // team // STEP * STEP
        if me < team - 1:
            last_pixel = pixels * (me + 1) // team // STEP * STEP
        target += me * total * 4
    elif how == {BY_OUTPUTS}:
        first_group = last_group * me // team
        last_group = last_group * (me + 1) // team
    else:
        first_panel = last_panel * me // team
        last_panel = last_panel * (me + 1) // team
    whole_groups = min(last_group, outs // {ROWS})
    rest = min(outs - whole_groups * {ROWS}, (last_group - whole_groups) * {ROWS})
    fast_groups = max(first_group, min(last_group, (outs - {MOVE // 4}) // {ROWS} + 1))
    next_group = (depth + STEP - 1) // STEP * {GROUP} + {MOVE}
    store_int64(shape, {A_ROW}, 4)
    store_int64(shape, {A_STEP}, {GROUP})
    store_int64(shape, {B_ROW}, ins * ITEM if lies else {4 * PANEL})
    store_int64(shape, {C_ROW}, taps * ins * 4)
    store_int64(shape, {SOON_STEP}, 64)
    store_int64(shape, {LEFT}, left)
    store_int64(shape, {RIGHT}, right)
    store_int64(shape, {GROUPS}, whole_groups - first_group)
    store_int64(shape, {REST}, rest)
    store_int64(shape, {NEXT_GROUP}, next_group)
    target += first_group * {ROWS} * taps * ins * 4
    area = high * wide
    out_area = out_high * out_wide
    dense = taps == 1 and high == 1 and out_high == 1 and wide == out_wide and pad_wide == 0
    gaps = taps == 1 and area != out_area  # where most of x would be asked for in vain
    begin = first_pixel
    while begin < last_pixel:
        k = min(depth, last_pixel - begin)
        steps = (k + STEP - 1) // STEP
        store_int64(shape, {K}, steps)
        store_int64(shape, {ACCUMULATE}, min(begin - first_pixel, 1))
        ahead = (begin + k) * area // out_area
        store_int64(shape, {SOON}, x + ahead * ins * ITEM)
        if not gaps:
            ahead = (begin + 2 * k) * area // out_area
        store_int64(shape, {SOON_END}, x + ahead * ins * ITEM)
        store_int64(shape, {THEN}, gradient + (begin + k) * outs * ITEM)
        store_int64(shape, {THEN_END}, gradient + (begin + 2 * k) * outs * ITEM)
GRADIENT
        for number in range(first_panel, last_panel):
            tap = number // per_tap
            down = tap // taps_wide * step_high - pad_high
            across = tap % taps_wide * step_wide - pad_wide
            near = max(0, (stride_wide - 1 - across) // stride_wide)
            far = min(out_wide, (wide - 1 - across) // stride_wide + 1)
            place = number - tap * per_tap
            before = max(place - (per_tap - narrow), 0)
            column = place * {PANEL} - before * {WIDTH}
            columns = min(ins - column, {PANEL})
            if place >= per_tap - narrow:
                columns = min(columns, {PANEL - WIDTH})
            if lies:
                store_int64(shape, {RIGHT}, x + (begin * ins + column) * ITEM)
            else:
PANEL_OF_X
            store_int64(shape, {TO}, target + (tap * ins + column) * 4)
            store_int64(shape, {COLUMNS}, columns)
            call1(multiply, shape)
        begin += k
    if sums == out:
        return 0
    barrier()
    parts = int64(1)
    if how == {BY_PIXELS}:
        parts = team
    if taps == 1:
        first = total * me // team
        end = total * (me + 1) // team
        source = sums
        for part in range(1, parts):
            more = sums + part * total * 4
            for i in range(first, end):
                independent()
                store_float32(out, i, load_float32(source, i) + load_float32(more, i))
            source = out
        if parts == 1:
            copy_bytes(out + first * 4, sums + first * 4, (end - first) * 4)
        return 0
    rows = right
    turned = rows + (taps + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH * WIDTH}
    line = turned + (turned - rows)
    for o in range(outs * me // team, outs * (me + 1) // team):
        for first in range(0, ins, {WIDTH}):
            count = min(ins - first, {WIDTH})
            for tap in range(taps):
                source = sums + 4 * ((o * taps + tap) * ins + first)
                to = rows + tap * {4 * WIDTH}
                copy_bytes(to, source, count * 4)
                for part in range(1, parts):
                    source += total * 4
                    for i in range(count):
                        independent()
                        store_float32(to, i, load_float32(to, i) + load_float32(source, i))
TURN
            copy_bytes(out + (o * ins + first) * taps * 4, line, count * taps * 4)
    return 0
"""


@cache
def source(dtype: str) -> str:
    """Text of the kernel on x and gradient of float32, or of bfloat16 in pairs of pixels."""
    wide = dtype == "float32"
    x = _PACK_X.replace("PLACE", "right" if wide else "wings")
    if not wide:
        x += _PAIR_X.lstrip().replace("PAIRS", _PAIRS.strip())
        dense = _PAIR_DENSE.replace("PAIRS", indent(_PAIRS.strip(), "    "))
        x = dense.replace("WINGS", indent(x.strip(), "    "))
    gradient = PACK_GRADIENT.replace("LINE", _ONE_PIXEL if wide else _TWO_PIXELS)
    text = _SOURCE.replace("GRADIENT", indent(gradient, " " * 8))
    text = text.replace("TURN", indent(TURN_TAPS.strip(), " " * 12))
    text = text.replace("PANEL_OF_X", indent(x, " " * 16))
    numbers: dict[str, int | str] = {"ITEM": 4, "ROW": 4 * PANEL, "STEP": 1, "LINES": 0, "WINGS": 0}
    numbers |= {"LIES": _LIES, "EVENED": _NARROW}
    if not wide:
        numbers = {"ITEM": 2, "ROW": 2 * PANEL, "STEP": 2, "LIES": "False", "EVENED": "int64(0)"}
        numbers |= {"LINES": "(outs + 15) // 16 * 64", "WINGS": f"(depth + 2) * {2 * PANEL}"}
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return text


def table_bytes(dtype: str, outs: int, depth: int, taps: int = 1) -> int:
    """Bytes of a thread's table and packed block: a panel of x, and groups of the gradient with
    gaps between them; of bfloat16 also a line of pairs and the panel before it is paired. Where
    they were, taps are put in order at the end."""
    step = 1 if dtype == "float32" else 2
    steps = -(-depth // step)
    block = steps * 4 * PANEL + -(-outs // ROWS) * (steps * GROUP + MOVE)
    if step == 2:
        block += -(-outs // 16) * 64 + (depth + 2) * 2 * PANEL
    return whole_lines(8 * FIELDS + max(block, space_bytes(taps)))
