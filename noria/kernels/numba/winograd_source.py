"""Source of the kernels of Winograd convolutions; `winograd.py` says what they do."""

from __future__ import annotations

from textwrap import indent

from noria.core.dtypes import itemsize
from noria.kernels.numba import gemm
from noria.kernels.numba.linear import ACTIVATIONS
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.numba.winograd_matrix import OUTPUTS, POSITIONS, SIDE, TAPS

# The numbers of a table. Strides of positions in bytes; `space` is for what threads keep apart.
_READ = reading("""
    x factors bias residual out weight high wide ins out_high out_wide outs top left tiles_down
    tiles_across tiles block shared data data_row data_step sums sums_step factors_step space
    space_step product mean scales
""")
TABLE = whole_lines(8 * gemm.AHEAD_FIELDS)  # bytes of the table of a product, in whole lines
CHUNK = 16  # tiles that are repaired at once

# Sets number, y, across: which image a tile is of, and where its outputs begin.
PLACE = f"""
number = tile // (tiles_down * tiles_across)
rest = tile - number * tiles_down * tiles_across
y = rest // tiles_across * {OUTPUTS}
across = (rest - rest // tiles_across * tiles_across) * {OUTPUTS}
"""

# Copies pixels that lie side by side, of memory of any dtype, to float32.
_COPY = """
for c in range(pixels * CHANNELS):
    independent()
    store_float32(to, c, load_DTYPE(from_, c))
"""
# The same of what a ReLU gives behind a batch norm. The fma that subtracts is never reordered.
_NORMED_COPY = """
for p in range(0, pixels * ins, ins):
    for c in range(ins):
        independent()
        d = fma(load_DTYPE(from_, p + c), float32(1), -load_float32(mean, c))
        v = fma(d, load_float32(scales, c), load_float32(scales, ins + c))
        store_float32(to, p + c, where(float32(0) > v, float32(0), v))
"""


def copied(channels: str, normed: bool = False) -> str:
    """Text that copies `pixels` pixels of so many channels from `from_` to `to`."""
    return _NORMED_COPY if normed else _COPY.replace("CHANNELS", channels)


# The transform of a tile of {side}x{side} pixels of {image} to {target}. The tile is first copied,
# row by row, to a place of its own in the first cache, in float32, with zeros around what is over a
# border: to transform it where it lies, a vector of channels at a time, is slower.
_FACTORS = """
source = {image} + ((number * {high} + y) * {wide} + across) * {channels} * SIZE
row = {wide} * {channels} * SIZE
if y < 0 or across < 0 or y + {side} > {high} or across + {side} > {wide}:
    fill_bytes(patch, 0, {side} * {side} * {channels} * 4)
begin = max(across, 0)
pixels = min(across + {side}, {wide}) - begin
for i in range(max(-y, 0), min({high} - y, {side})):
    to = patch + (i * {side} + begin - across) * {channels} * 4
    from_ = source + i * row + (begin - across) * {channels} * SIZE
    COPY
row = {side} * {channels} * 4
to = {target} + t * {target}_row
for c in range(0, {channels} * 4, LANES):
    {transform}(patch + c, row, {channels} * 4, to + c, {target}_step)
""".replace("LANES", str(4 * WIDTH))


def data(normed: bool = False) -> str:
    """Text that transforms a tile of x."""
    text = _FACTORS.format(
        image="x",
        high="high",
        wide="wide",
        channels="ins",
        side=SIDE,
        target="data",
        transform="winograd_data",
    )
    return nested("y -= top\nacross -= left" + text, 0, COPY=copied("ins", normed))


def grad() -> str:
    """Text that transforms a tile of the output's gradient."""
    text = _FACTORS.format(
        image="grad",
        high="out_high",
        wide="out_wide",
        channels="outs",
        side=OUTPUTS,
        target="grads",
        transform="winograd_grad",
    )
    return nested(text, 0, COPY=copied("outs"))


_PRODUCTS = f"""
for position in range(from_position, to_position):
    store_int64(table, {gemm.A}, data + position * data_step)
    store_int64(table, {gemm.B}, factors + position * factors_step)
    store_int64(table, {gemm.C}, sums + position * sums_step)
    call1(product, table)
"""

# From sums of a tile that lie at `lines`, in the first cache, to the output.
_WRITE = f"""
for i in range(min({OUTPUTS}, out_high - y)):
    for j in range(min({OUTPUTS}, out_wide - across)):
        line = lines + (i * {OUTPUTS} + j) * outs * 4
        pixel = ((number * out_high + y + i) * out_wide + across + j) * outs * SIZE
        for c in range(outs):
            independent()
            v = load_float32(line, c)
            check += v * float32(0)
            v = VALUE
            store_DTYPE(out + pixel, c, ACTIVATED)
"""

# A tile with an infinity or a NaN is put on the list: both spread over the whole tile in the
# transforms.
_RESULT = f"""
for t in range(low, high_tile):
    tile = first + t
    PLACE
    for c in range(0, outs * 4, {4 * WIDTH}):
        source = sums + t * outs * 4 + c
        winograd_result(source, sums_step * {SIDE}, sums_step, patch + c, outs * 4)
    lines = patch
    check = float32(0)
    WRITE
    if check != check:
        store_int64(list_, spoiled, tile)
        spoiled += 1
"""

# The tiles of the list once more, tap by tap, as the definition says.
_REPAIR = f"""
if spoiled > 0:
    store_int64(table, {gemm.A_ROW}, ins * 4)
    store_int64(table, {gemm.A}, patch)
    store_int64(table, {gemm.B}, panels)
    store_int64(table, {gemm.ACCUMULATE}, 1)
for begin_list in range(0, spoiled, {CHUNK}):
    end_list = min(begin_list + {CHUNK}, spoiled)
    fill_bytes(anew, 0, {CHUNK * OUTPUTS**2 * 4} * outs)
    for tap in range({TAPS * TAPS}):
        down = tap // {TAPS} - top
        right = tap % {TAPS} - left
        for c in range(ins):
            for o in range(outs):
                v = load_DTYPE(weight, c * ROW + o * COLUMN + SOURCE_TAP)
                store_float32(panels, (o // {PANEL} * ins + c) * {PANEL} + o % {PANEL}, v)
        for s in range(begin_list, end_list):
            tile = load_int64(list_, s)
            PLACE
            begin = max(across, -right)
            pixels = min(min(across + {OUTPUTS}, out_wide), wide - right) - begin
            store_int64(table, {gemm.M}, pixels)
            for i in range(max(y, -down), min(min(y + {OUTPUTS}, out_high), high - down)):
                to = patch
                from_ = x + ((number * high + i + down) * wide + begin + right) * ins * SIZE
                COPY
                place = ((s - begin_list) * {OUTPUTS} + i - y) * {OUTPUTS} + begin - across
                store_int64(table, {gemm.C}, anew + place * outs * 4)
                if pixels > 0:
                    call1(product, table)
    for s in range(begin_list, end_list):
        tile = load_int64(list_, s)
        PLACE
        lines = anew + (s - begin_list) * {OUTPUTS**2 * 4} * outs
        check = float32(0)
        WRITE
"""

_KERNEL = f"""
def winograd(args):
{_READ}
    me = thread_id()
    team = team_size()
    space += me * space_step
    table = space
    list_ = space + {TABLE}
    patch = list_ + (tiles + 7) // 8 * 64
    anew = patch + {POSITIONS} * max(ins, outs) * 4
    panels = anew + {CHUNK * OUTPUTS**2 * 4} * outs
    spoiled = int64(0)
    begin_tile = int64(0)
    end_tile = tiles
    from_position = int64(0)
    to_position = int64({POSITIONS})
    if shared:
        from_position = {POSITIONS} * me // team
        to_position = {POSITIONS} * (me + 1) // team
    else:
        begin_tile = tiles * me // team
        end_tile = tiles * (me + 1) // team
        data += me * data_step * {POSITIONS}
        sums += me * sums_step * {POSITIONS}
    store_int64(table, {gemm.B_PANEL}, {4 * PANEL} * ins)
    store_int64(table, {gemm.N}, outs)
    store_int64(table, {gemm.A_ROW}, data_row)
    store_int64(table, {gemm.A_STEP}, 4)
    store_int64(table, {gemm.B_ROW}, {4 * PANEL})
    store_int64(table, {gemm.C_ROW}, outs * 4)
    store_int64(table, {gemm.K}, ins)
    store_int64(table, {gemm.ACCUMULATE}, 0)
    for first in range(begin_tile, end_tile, block):
        low = int64(0)
        high_tile = min(block, end_tile - first)
        store_int64(table, {gemm.M}, high_tile)
        if shared:
            low = high_tile * me // team
            high_tile = high_tile * (me + 1) // team
        for t in range(low, high_tile):
            tile = first + t
            PLACE
DATA
        if shared:
            barrier()
PRODUCTS
        if shared:
            barrier()
RESULT
REPAIR
    return 0
"""


def repair_bytes(ins: int, outs: int) -> int:
    """Of the sums of a CHUNK of tiles and a tap's weights in panels."""
    return CHUNK * OUTPUTS**2 * 4 * outs + gemm.packed_bytes(ins, outs)


def nested(text: str, spaces: int, **parts: str) -> str:
    """The text further in, with the lines that each name stands for as far in as the name."""
    lines = []
    for line in text.strip("\n").splitlines():
        part = {"PLACE": PLACE, **parts}.get(line.strip())
        inner = nested(part, 0, **parts).strip("\n") if part else line
        lines.append(indent(inner, line[: len(line) - len(line.lstrip())]) if part else line)
    return indent("\n".join(lines), " " * spaces)


def filled(text: str, dtype: str) -> str:
    """For images and weights of that dtype."""
    return text.replace("DTYPE", dtype).replace("SIZE", str(itemsize(dtype)))


def convolution(
    bias: str | None,
    residual: bool,
    activation: str | None,
    flipped: bool,
    dtype: str,
    normed: bool = False,
) -> str:
    """Source of `winograd`, the convolution or, flipped, its gradient by the input.

    bias: its dtype
    normed: x is normalised by `mean` and `scales`, and goes through a ReLU, where it is read
    """
    value = "v" + (f" + load_{bias}(bias, c)" if bias else "")
    value += " + load_DTYPE(residual + pixel, c)" if residual else ""
    text = nested(_KERNEL, 0, WRITE=_WRITE)
    inner = {"WRITE": _WRITE, "COPY": copied("ins", normed)}
    for name, part, spaces in (
        ("DATA", data(normed), 12),
        ("PRODUCTS", _PRODUCTS, 8),
        ("RESULT", _RESULT, 8),
        ("REPAIR", _REPAIR, 4),
    ):
        text = text.replace(f"\n{name}\n", f"\n{nested(part, spaces, **inner)}\n")
    text = text.replace("VALUE", value)
    text = text.replace("ACTIVATED", ACTIVATIONS[activation].format(v="v"))
    taps = TAPS * TAPS
    row, column = (f"outs * {taps}", f"{taps}") if flipped else (f"{taps}", f"ins * {taps}")
    text = text.replace("ROW", row).replace("COLUMN", column)
    text = text.replace("SOURCE_TAP", f"{taps - 1} - tap" if flipped else "tap")
    return filled(text, dtype)


# A weight [O, I, TAPS, TAPS] to one matrix a position, in panels. WIDTH inputs and a panel of
# outputs at a time, so that what is written lies together. They are lines of memory, of SQUARE
# numbers, of an output of the product each, with all taps of the inputs in it, or, flipped, the
# other way round. Turned in registers, each tap is a vector of outputs. Those of the next square
# are asked for meanwhile: no CPU foresees so many lines.
SQUARE = TAPS * TAPS * WIDTH
LINES = 4 * WIDTH * SQUARE + 64  # bytes; turning reads a bit past them,
FACTOR_SPACE = LINES + 4 * PANEL * SQUARE + 4 * WIDTH * WIDTH  # and writes past what is turned
_TURN = f"""
for t in range({TAPS * TAPS}):
    transpose_tile(lines + t * {4 * WIDTH}, {4 * SQUARE}, to + t * {4 * WIDTH * WIDTH}, {4 * WIDTH})
"""
_TURN_FLIPPED = f"""
for k in range({WIDTH}):
    for t in range(0, {TAPS * TAPS}, {WIDTH}):
        at = k * {4 * SQUARE} + t * {4 * WIDTH}
        transpose_tile(lines + k * {4 * SQUARE} + t * 4, {4 * TAPS * TAPS}, to + at, {4 * WIDTH})
"""
_READ_LINE = f"""
for n in range({SQUARE}):
    independent()
    store_float32(to, n, load_float32(weight + 4 * place, n))
"""
# Of bfloat16 the weight itself is kept as well: tiles are repaired by it.
_KEEP_LINE = f"""
for n in range({SQUARE}):
    independent()
    store_bfloat16(halves + 2 * place, n, load_GIVEN(weight + SIZE * place, n))
for n in range({SQUARE}):
    independent()
    store_float32(to, n, load_bfloat16(halves + 2 * place, n))
"""
_FACTOR = f"""
def factors(args):
    weight = load_int64(args, 0)
    target = load_int64(args, 1)
    ins = load_int64(args, 2)
    outs = load_int64(args, 3)
    step = load_int64(args, 4)
    halves = load_int64(args, 5)
    lines = load_int64(args, 6) + thread_id() * {FACTOR_SPACE}
    turned = lines + {LINES}
    team = team_size()
    across = (outs + {PANEL - 1}) // {PANEL}
    units = ins // {WIDTH} * across
    for unit in range(units * thread_id() // team, units * (thread_id() + 1) // team):
        i = unit // across * {WIDTH}
        first = (unit - unit // across * across) * {PANEL}
        last = min(first + {PANEL}, outs)
        for o in range(first, last, {WIDTH}):
            place = (LINE * INNER + COLUMN) * {TAPS * TAPS}
            next_o = o + {WIDTH} if o + {WIDTH} < outs else 0
            next_i = i if next_o else i + {WIDTH}
            soon = (next_LINE * INNER + next_COLUMN) * {TAPS * TAPS}
            for line in range({WIDTH}):
                to = lines + line * {4 * SQUARE}
                for n in range(0, {SQUARE}, 64 // SIZE):
                    prefetch(weight + SIZE * (soon + n))
READ
                place += INNER * {TAPS * TAPS}
                soon += INNER * {TAPS * TAPS}
            to = turned + (o - first) * {4 * SQUARE}
TURN
        to = target + (first * ins + i * {PANEL}) * 4
        for k in range({WIDTH}):
            for o in range(first, last, {WIDTH}):
                taps = turned + (o - first + k) * {4 * SQUARE} + FIRST
                STORE(taps, SIGN{4 * TAPS * WIDTH}, SIGN{4 * WIDTH}, to + (o - first) * 4, step)
            to += {4 * PANEL}
    fence()
    return 0
"""


def factors(dtype: str, flipped: bool, past: bool, given: str) -> str:
    """Source of `factors`, for weights of that dtype; past: the result fits no cache.

    given: their dtype in memory, float32 where they are rounded to bfloat16 on the way
    """
    turn, sign = (_TURN_FLIPPED, "-") if flipped else (_TURN, "")
    read = _READ_LINE if dtype == "float32" else _KEEP_LINE
    text = _FACTOR.replace("\nTURN\n", f"\n{nested(turn, 12)}\n")
    text = text.replace("\nREAD\n", f"\n{nested(read, 16)}\n")
    text = text.replace("STORE", f"winograd_kernel{'_past' * past}").replace("SIGN", sign)
    text = text.replace("FIRST", str((TAPS * TAPS - 1) * 4 * WIDTH if flipped else 0))
    line, inner, column = ("i", "outs", "o") if flipped else ("o", "ins", "i")
    text = text.replace("LINE", line).replace("INNER", inner).replace("COLUMN", column)
    return text.replace("GIVEN", given).replace("SIZE", str(itemsize(given)))
