"""Text of the gradient of a convolution by its weight; see `conv_weight_grad`."""

from __future__ import annotations

from textwrap import indent

from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH

GROUP = 4 * ROWS  # bytes of a pixel in a group
BY_PIXELS, BY_OUTPUTS, BY_PANELS = range(3)  # how threads share the work

_NAMES = (
    ("x", "gradient", "sums", "out", "scratch", "room", "how", "depth", "multiply"),
    ("pixels", "ins", "outs", "taps", "high", "wide", "out_high", "out_wide", "taps_wide"),
    ("stride_high", "stride_wide", "pad_high", "pad_wide", "step_high", "step_wide"),
)
_READ = "\n".join(
    f"    {name} = load_int64(args, {i})" for i, name in enumerate(n for row in _NAMES for n in row)
)

# Groups of the gradient of the block: [group][pixel][ROWS]. A whole vector is moved for each; what
# is too much of it is written over by the next pixel, at last into a gap between groups.
_PACK_GRADIENT = f"""
for pixel in range(k):
    row = gradient + (begin + pixel) * outs * 4
    to = left + pixel * {GROUP}
    for group in range(first_group, fast_groups):
        copy_bytes(to, row + group * {GROUP}, {4 * WIDTH})
        to += next_group
    for group in range(fast_groups, whole_groups):
        copy_bytes(to, row + group * {GROUP}, {GROUP})
        to += next_group
    if whole_groups < last_group:
        copy_bytes(to, row + whole_groups * {GROUP}, (outs - whole_groups * {ROWS}) * 4)
"""

# A panel of x, [pixel][PANEL], as a tap sees it from the pixels of the block.
_PACK_X = f"""
to = right
pixel = begin
while pixel < begin + k:
    line = pixel // out_wide
    ow = pixel - line * out_wide
    count = min(out_wide - ow, begin + k - pixel)
    image = line // out_high
    ih = (line - image * out_high) * stride_high + down
    inside = (image * high + ih) * wide
    low = min(max(ow, near), ow + count)
    top = max(min(ow + count, far), low)
    if ih < 0 or ih >= high:
        low = top = ow + count
    source = x + ((inside + low * stride_wide + across) * ins + column) * 4
    fill_bytes(to, 0, (low - ow) * {4 * PANEL})
    to += (low - ow) * {4 * PANEL}
    if columns == {PANEL}:
        for i in range(low, top):
            copy_bytes(to, source, {4 * PANEL})
            source += stride_wide * ins * 4
            to += {4 * PANEL}
    else:
        for i in range(low, top):
            copy_bytes(to, source, columns * 4)
            source += stride_wide * ins * 4
            to += {4 * PANEL}
    fill_bytes(to, 0, (ow + count - top) * {4 * PANEL})
    to += (ow + count - top) * {4 * PANEL}
    pixel += count
"""

# Table of `multiply`: what the tiles read (to SOON_STEP: a line of memory asked for at each pixel),
# and what walks them over the groups of a panel.
A_ROW, A_STEP, B_ROW, C_ROW, K, ACCUMULATE, SOON, SOON_STEP = range(8)
SOON_END, LEFT, RIGHT, TO, GROUPS, REST, NEXT_GROUP, COLUMNS = range(8, 16)
FIELDS = 16


def _walk(name: str, columns: str) -> str:
    """Calls of the tiles over all groups of a panel; `name` has {m} for their rows."""
    lines = [
        "while group < groups:",
        f"    {name.format(m=ROWS)}(at, right, to, args, {columns})",
        "    at += next_group",
        f"    to += {ROWS} * c_row",
        "    soon = min(soon + step, end)",
        f"    store_int64(args, {SOON}, soon)",
        "    group += 1",
    ]
    for m in range(1, ROWS):
        lines += [f"if rest == {m}:", f"    {name.format(m=m)}(at, right, to, args, {columns})"]
    return "\n".join(lines)


_CUT = "\n".join(
    f"if vectors == {v}:\n{indent(_walk('tile_{m}_' + str(v), 'columns'), '    ')}"
    for v in range(1, VECTORS + 1)
)
# One panel times all groups. A function of its own: within a larger one LLVM spills the sums.
MULTIPLY = f"""
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
    step = load_int64(args, {SOON_STEP}) * load_int64(args, {K})
    group = 0
    if columns == {PANEL}:
{indent(_walk("ahead_{m}", str(PANEL)), " " * 8)}
        return 0
    vectors = (columns + {WIDTH - 1}) // {WIDTH}
{indent(_CUT, "    ")}
    return 0
"""

SOURCE = f"""
def weight_grad(args):
{_READ}
    me = thread_id()
    team = team_size()
    shape = scratch + me * room
    right = shape + {8 * FIELDS}
    left = right + depth * {4 * PANEL}
    per_tap = (ins + {PANEL - 1}) // {PANEL}
    first_pixel = 0
    last_pixel = pixels
    first_group = 0
    last_group = (outs + {ROWS - 1}) // {ROWS}
    first_panel = 0
    last_panel = taps * per_tap
    total = outs * taps * ins
    target = sums
    if how == {BY_PIXELS}:
        first_pixel = pixels * me // team
        last_pixel = pixels * (me + 1) // team
        target += me * total * 4
    elif how == {BY_OUTPUTS}:
        first_group = last_group * me // team
        last_group = last_group * (me + 1) // team
    else:
        first_panel = last_panel * me // team
        last_panel = last_panel * (me + 1) // team
    whole_groups = min(last_group, outs // {ROWS})
    rest = min(outs - whole_groups * {ROWS}, (last_group - whole_groups) * {ROWS})
    fast_groups = max(first_group, min(last_group, (outs - {WIDTH}) // {ROWS} + 1))
    next_group = depth * {GROUP} + {4 * WIDTH}
    store_int64(shape, {A_ROW}, 4)
    store_int64(shape, {A_STEP}, {GROUP})
    store_int64(shape, {B_ROW}, {4 * PANEL})
    store_int64(shape, {C_ROW}, taps * ins * 4)
    store_int64(shape, {SOON_STEP}, 64)
    store_int64(shape, {LEFT}, left)
    store_int64(shape, {RIGHT}, right)
    store_int64(shape, {GROUPS}, whole_groups - first_group)
    store_int64(shape, {REST}, rest)
    store_int64(shape, {NEXT_GROUP}, next_group)
    target += first_group * {ROWS} * taps * ins * 4
    begin = first_pixel
    while begin < last_pixel:
        k = min(depth, last_pixel - begin)
        store_int64(shape, {K}, k)
        store_int64(shape, {ACCUMULATE}, min(begin - first_pixel, 1))
        store_int64(shape, {SOON}, x + (begin + k) * ins * 4)
        store_int64(shape, {SOON_END}, x + (begin + 2 * k) * ins * 4)
        asking_for_x = True
{indent(_PACK_GRADIENT, " " * 8)}
        for number in range(first_panel, last_panel):
            tap = number // per_tap
            down = tap // taps_wide * step_high - pad_high
            across = tap % taps_wide * step_wide - pad_wide
            near = max(0, (stride_wide - 1 - across) // stride_wide)
            far = min(out_wide, (wide - 1 - across) // stride_wide + 1)
            column = (number - tap * per_tap) * {PANEL}
            columns = min(ins - column, {PANEL})
{indent(_PACK_X, " " * 12)}
            if load_int64(shape, {SOON}) >= load_int64(shape, {SOON_END}) and asking_for_x:
                store_int64(shape, {SOON}, gradient + (begin + k) * outs * 4)
                store_int64(shape, {SOON_END}, gradient + (begin + 2 * k) * outs * 4)
                asking_for_x = False
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
        for i in range(total * me // team, total * (me + 1) // team):
            independent()
            s = load_float32(sums, i)
            for part in range(1, parts):
                s += load_float32(sums + part * total * 4, i)
            store_float32(out, i, s)
        return 0
    for o in range(outs * me // team, outs * (me + 1) // team):
        for tap in range(taps):
            source = sums + 4 * (o * taps + tap) * ins
            to = out + 4 * (o * ins * taps + tap)
            for i in range(ins):
                s = load_float32(source, i)
                for part in range(1, parts):
                    s += load_float32(source + part * total * 4, i)
                store_float32(to, i * taps, s)
    return 0
"""
