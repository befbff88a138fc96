"""Source of the kernel of Winograd gradients by the weight; see `winograd_grad.py`."""

from __future__ import annotations

from noria.core.dtypes import itemsize
from noria.kernels.numba import gemm
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.tap_lines import TURN_TAPS, square_bytes
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.numba.winograd_matrix import POSITIONS, SIDE, TAPS
from noria.kernels.numba.winograd_source import copied, data, filled, grad, nested

# The numbers of a table. Strides in bytes; `space` is for what threads keep apart.
_READ = reading("""
    x grad weight high wide ins out_high out_wide outs top left tiles_down tiles_across tiles
    images block data data_row data_step grads grads_row grads_step sums space space_step product
    near mean scales
""")
TABLE = 64 + whole_lines(8 * (gemm.FIELDS + 1))  # bytes: whether results are finite, and a table

# All taps at once by the definition: where NaN or infinities have spread, both over all taps. A run
# of pixels that lie side by side is one product.
_DIRECT = f"""
for tap in range({TAPS * TAPS} * me // team, {TAPS * TAPS} * (me + 1) // team):
    down = tap // {TAPS} - top
    right = tap % {TAPS} - left
    sum_ = sums + tap * sums_step
    fill_bytes(sum_, 0, sums_step)
    begin = max(0, -right)
    pixels = min(out_wide, wide - right) - begin
    store_int64(table, {gemm.A}, patch)
    store_int64(table, {gemm.B}, patch + max(pixels, 0) * outs * 4)
    store_int64(table, {gemm.A_STEP}, outs * 4)
    store_int64(table, {gemm.B_ROW}, ins * 4)
    store_int64(table, {gemm.K}, pixels)
    store_int64(table, {gemm.C}, sum_)
    store_int64(table, {gemm.ACCUMULATE}, 1)
    if pixels > 0:
        for number in range(images):
            for i in range(max(0, -down), min(out_high, high - down)):
                to = patch
                from_ = grad + ((number * out_high + i) * out_wide + begin) * outs * SIZE
                COPY_GRAD
                to = patch + pixels * outs * 4
                from_ = x + ((number * high + i + down) * wide + begin + right) * ins * SIZE
                COPY
                call1(product, table)
    for o in range(outs):
        for c in range(ins):
            independent()
            v = load_float32(sum_, o * ins + c)
            store_RESULT(weight, (o * ins + c) * {TAPS * TAPS} + tap, v)
"""

_KERNEL = f"""
def weight_grad(args):
{_READ}
    me = thread_id()
    team = team_size()
    table = space + me * space_step + 64
    patch = space + me * space_step + {TABLE}
    sums_step = ins * outs * 4
    store_int64(table, {gemm.B_PANEL}, {4 * PANEL})
    store_int64(table, {gemm.NEAR}, near)
    store_int64(table, {gemm.M}, outs)
    store_int64(table, {gemm.N}, ins)
    store_int64(table, {gemm.A_ROW}, 4)
    store_int64(table, {gemm.A_STEP}, grads_row)
    store_int64(table, {gemm.B_ROW}, data_row)
    store_int64(table, {gemm.C_ROW}, ins * 4)
    if tiles == 0:
        fill_bytes(sums + me * {POSITIONS} // team * sums_step, 0,
            ((me + 1) * {POSITIONS} // team - me * {POSITIONS} // team) * sums_step)
    for first in range(0, tiles, block):
        number_of = min(block, tiles - first)
        if first > 0:
            barrier()
        for t in range(number_of * me // team, number_of * (me + 1) // team):
            tile = first + t
            PLACE
GRAD
DATA
        barrier()
        store_int64(table, {gemm.K}, number_of)
        store_int64(table, {gemm.ACCUMULATE}, min(first, 1))
        for position in range({POSITIONS} * me // team, {POSITIONS} * (me + 1) // team):
            store_int64(table, {gemm.A}, grads + position * grads_step)
            store_int64(table, {gemm.B}, data + position * data_step)
            store_int64(table, {gemm.C}, sums + position * sums_step)
            call1(product, table)
    barrier()
    check = float32(0)
    rows = patch
    turned = rows + {square_bytes(TAPS * TAPS)}
    line = turned + {square_bytes(TAPS * TAPS)}
    taps = {TAPS * TAPS}
    for o in range(outs * me // team, outs * (me + 1) // team):
        for c in range(0, ins, {WIDTH}):
            source = sums + (o * ins + c) * 4
            winograd_taps(source, sums_step * {SIDE}, sums_step, rows, {4 * WIDTH})
TURN
            to = weight + (o * ins + c) * taps * RESULT_SIZE
            for n in range({TAPS * TAPS * WIDTH}):
                independent()
                v = load_float32(line, n)
                check += v * float32(0)
                store_RESULT(to, n, v)
    store_int64(space, me * (space_step // 8), int64(check != check))
    barrier()
    spoiled = int64(0)
    for other in range(team):
        spoiled += load_int64(space, other * (space_step // 8))
    if spoiled > 0:
DIRECT
    return 0
"""


def weight_grad(dtype: str, result: str, normed: bool = False) -> str:
    """Source of `weight_grad`, for images and a result of these dtypes; normed: as of
    `winograd_source.convolution`."""
    text = nested(_KERNEL, 0)
    inner = {"COPY": copied("ins", normed), "COPY_GRAD": copied("outs")}
    parts = (
        ("GRAD", grad(), 12),
        ("DATA", data(normed), 12),
        ("TURN", TURN_TAPS, 12),
        ("DIRECT", _DIRECT, 8),
    )
    for name, part, spaces in parts:
        text = text.replace(f"\n{name}\n", f"\n{nested(part, spaces, **inner)}\n")
    text = text.replace("RESULT_SIZE", str(itemsize(result))).replace("RESULT", result)
    return filled(text, dtype)
