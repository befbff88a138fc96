"""The source of the attention kernels on bfloat16, with products of pairs of numbers.

As in `attention_source.py`, but operands are read as they are, the weights of a block are rounded
for the products that take them, and what is added up over blocks stays float32 in the scratch
memory until it is whole. Scores, softmax and sums are float32. Heads of an odd size are left to
that kernel: a word is two numbers of a head.
"""

from __future__ import annotations

from textwrap import indent

from noria.kernels.numba.attention_source import (
    HOW,
    KEYS,
    LINE,
    MASK,
    OPERANDS,
    PACK,
    PITCH,
    QUERIES,
    SEEN,
    SIZES,
    TOP,
    TOTAL,
    lines_of,
    loads,
    multiply,
    pack,
    view,
)
from noria.kernels.numba.gemm import PANEL, packed_bytes
from noria.kernels.numba.tile_sizes import WIDTH

# What lies where in a thread's scratch memory: scores and their slopes, both rounded, row by row
# and in words of two rows, then packed operands and sums.
_SCORES = lines_of(TOTAL + 4 * QUERIES)
_SLOPES = _SCORES + 4 * QUERIES * PITCH
_WEIGHTS = _SLOPES + 4 * QUERIES * PITCH
_ROUNDED = _WEIGHTS + 2 * QUERIES * PITCH
_WEIGHT_WORDS = _ROUNDED + 2 * QUERIES * PITCH
_SLOPE_WORDS = _WEIGHT_WORDS + 2 * QUERIES * PITCH
_PACKED = _SLOPE_WORDS + 2 * QUERIES * PITCH


def pitch(size: int) -> int:
    """Floats from row to row of sums."""
    return -(-size // WIDTH) * WIDTH


def block_bytes(inner: int, width: int, queries: int) -> int:
    """Bytes of scratch memory a thread needs for heads of these sizes (of q and k, of v)."""
    turned = packed_bytes(inner // 2, KEYS) + packed_bytes(width // 2, KEYS)
    rows = sum(packed_bytes(n // 2, size) for n in (KEYS, QUERIES) for size in (inner, width))
    sums = 4 * max(KEYS * (pitch(inner) + pitch(width)), QUERIES * pitch(width))
    return lines_of(_PACKED + turned + rows + sums + 4 * queries * pitch(inner)) + LINE


def _pack_rows(at: int, source: str, row: str, target: str, k: str, n: str) -> str:
    """Words of two rows of a matrix, in panels."""
    fields = (source, row, target, k, n)
    lines = [f"store_int64(packing, {i}, {x})" for i, x in enumerate(fields)]
    return indent("\n".join([*lines, "call1(row_packer, packing)"]), " " * at)


def _scores(at: int, a: str, row: str, b: str, words: str, c: str) -> str:
    """A product of rows of heads: rows x columns numbers."""
    return multiply(
        at,
        a=a,
        a_row=row,
        a_step="4",
        b=b,
        b_panel=f"{words} * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c=c,
        c_row=f"{4 * PITCH}",
        m="rows",
        n="columns",
        k=words,
        add="0",
    )


def _sums(at: int, turned: bool, **fields: str) -> str:
    """A product of weights or slopes with packed rows; turned: of columns x rows of them."""
    words = "(rows + 1) // 2" if turned else "(columns + 1) // 2"
    fields |= {"a_row": "4", "a_step": f"{4 * PITCH}"} if turned else {}
    known = {"a_row": f"{2 * PITCH}", "a_step": "4", "b_row": f"{4 * PANEL}", "k": words}
    return multiply(at, **(known | fields))


_THREAD = f"""
    nothing = -float32(1) / float32(0)
    mine = scratch + thread_id() * room
    packing = mine + {PACK}
    scores = mine + {_SCORES}
    weights = mine + {_WEIGHTS}
    turned_k = mine + {_PACKED}
    words = inner // 2
    width_words = width // 2
    inner_row = (inner + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH}
    width_row = (width + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH}
    panels_k = (inner + {PANEL - 1}) // {PANEL}
    panels_v = (width + {PANEL - 1}) // {PANEL}
"""

FORWARD = f"""
def attend(args):
{loads([*OPERANDS, *view("out"), "log_sum", *MASK, *SIZES, *HOW, "row_packer"])}
{_THREAD}
    tops = mine + {TOP}
    totals = mine + {TOTAL}
    packed_v = turned_k + words * {4 * KEYS}
    sums = packed_v + panels_v * {2 * PANEL * KEYS}
    blocks = (queries + {QUERIES - 1}) // {QUERIES}
    units = batch * heads * blocks
    team = team_size()
    me = thread_id()
    unit = me
    last = units
    stride = team
    if batch * heads % team == 0 or batch * heads >= 4 * team:
        unit = units * me // team
        last = units * (me + 1) // team
        stride = 1
    packed = -1
    while unit < last:
        head = unit // blocks
        n = head // heads
        h = head - n * heads
        q0 = (unit - head * blocks) * {QUERIES}
        rows = min(queries - q0, {QUERIES})
        at_q = q + n * q_n + h * q_h + q0 * q_t
        at_out = out + n * out_n + h * out_h + q0 * out_t
        for i in range(rows):
            store_float32(tops, i, nothing)
            store_float32(totals, i, float32(0))
        end = keys
        if causal != 0:
            end = min(keys, q0 + rows)
        k0 = 0
        while k0 < end:
            columns = min(end - k0, {KEYS})
            whole = min(keys - k0, {KEYS})
            if packed != head or keys > {KEYS}:
                at_k = k + n * k_n + h * k_h + k0 * k_t
                at_v = v + n * v_n + h * v_h + k0 * v_t
{pack(16, "at_k", "4", "k_t", "turned_k", "words", "whole")}
{_pack_rows(16, "at_v", "v_t", "packed_v", "whole", "width")}
                packed = head
{_scores(12, "at_q", "q_t", "turned_k", "words", "scores")}
            for i in range(rows):
{indent(SEEN.strip(), " " * 16)}
                old = load_float32(tops, i)
                top = old
                for c in range(limit):
                    top = maximum(top, load_float32(line, c))
                shift = top
                if top == nothing:
                    shift = float32(0)
                total = float32(0)
                weight = weights + i * {2 * PITCH}
                for c in range(limit):
                    independent()
                    e = exp(load_float32(line, c) - shift)
                    store_bfloat16(weight, c, e)
                    total += e
                for c in range(limit, columns + columns % 2):
                    store_bfloat16(weight, c, float32(0))
                factor = exp(old - shift)
                store_float32(tops, i, top)
                store_float32(totals, i, load_float32(totals, i) * factor + total)
                if k0 > 0:
                    to = sums + i * width_row
                    for c in range(width):
                        independent()
                        store_float32(to, c, load_float32(to, c) * factor)
            add = min(k0, 1)
{
    _sums(
        12,
        False,
        a="weights",
        b="packed_v",
        b_panel=f"(whole + 1) // 2 * {4 * PANEL}",
        c="sums",
        c_row="width_row",
        m="rows",
        n="width",
        add="add",
    )
}
            k0 += {KEYS}
        for i in range(rows):
            total = load_float32(totals, i)
            known = nothing
            factor = float32(0)
            if total != float32(0):
                known = load_float32(tops, i) + log(total)
                factor = float32(1) / total
            store_float32(log_sum, head * queries + q0 + i, known)
            to = at_out + i * out_t
            found = sums + i * width_row
            for c in range(width):
                independent()
                store_bfloat16(to, c, load_float32(found, c) * factor)
        unit += stride
    return 0
"""

# Words of two rows, for products that add up over rows; what a last row lacks is 0.
_WORDS = f"""
if rows % 2 != 0:
    fill_bytes(weights + rows * {2 * PITCH}, 0, columns * 2)
    fill_bytes(rounded + rows * {2 * PITCH}, 0, columns * 2)
for i in range(0, rows, 2):
    low = weights + i * {2 * PITCH}
    for c in range(columns):
        independent()
        word = pair(load_uint16(low, c), load_uint16(low, c + {PITCH}))
        store_uint32(weight_words, i * {PITCH // 2} + c, word)
    low = rounded + i * {2 * PITCH}
    for c in range(columns):
        independent()
        word = pair(load_uint16(low, c), load_uint16(low, c + {PITCH}))
        store_uint32(slope_words, i * {PITCH // 2} + c, word)
"""


def _rounded(at: int, count: str, size: str, to: str, found: str) -> str:
    """Sums as they are stored. to, found: address and bytes from row to row"""
    lines = f"""
for i in range({count}):
    target = {to.replace(",", " + i *")}
    source = {found.replace(",", " + i *")}
    for c in range({size}):
        independent()
        store_bfloat16(target, c, load_float32(source, c))
"""
    return indent(lines.strip(), " " * at)


BACKWARD = f"""
def attend(args):
{
    loads(
        [
            *OPERANDS,
            *view("out"),
            "log_sum",
            *view("g"),
            *view("gq"),
            *view("gk"),
            *view("gv"),
            *MASK,
            *SIZES,
            *HOW,
            "row_packer",
        ]
    )
}
{_THREAD}
    slopes = mine + {_SLOPES}
    rounded = mine + {_ROUNDED}
    weight_words = mine + {_WEIGHT_WORDS}
    slope_words = mine + {_SLOPE_WORDS}
    turned_v = turned_k + words * {4 * KEYS}
    rows_k = turned_v + width_words * {4 * KEYS}
    rows_q = rows_k + panels_k * {2 * PANEL * KEYS}
    rows_g = rows_q + panels_k * {2 * PANEL * QUERIES}
    sums_k = rows_g + panels_v * {2 * PANEL * QUERIES}
    sums_v = sums_k + inner_row * {KEYS}
    sums_q = sums_v + width_row * {KEYS}
    team = team_size()
    first = batch * heads * thread_id() // team
    for head in range(first, batch * heads * (thread_id() + 1) // team):
        n = head // heads
        h = head - n * heads
        for k0 in range(0, keys, {KEYS}):
            whole = min(keys - k0, {KEYS})
            at_k = k + n * k_n + h * k_h + k0 * k_t
            at_v = v + n * v_n + h * v_h + k0 * v_t
            at_gk = gk + n * gk_n + h * gk_h + k0 * gk_t
            at_gv = gv + n * gv_n + h * gv_h + k0 * gv_t
{pack(12, "at_k", "4", "k_t", "turned_k", "words", "whole")}
{pack(12, "at_v", "4", "v_t", "turned_v", "width_words", "whole")}
{_pack_rows(12, "at_k", "k_t", "rows_k", "whole", "inner")}
            fill_bytes(sums_k, 0, whole * inner_row)
            fill_bytes(sums_v, 0, whole * width_row)
            begin = 0
            if causal != 0:
                begin = k0 // {QUERIES} * {QUERIES}
            for q0 in range(begin, queries, {QUERIES}):
                rows = min(queries - q0, {QUERIES})
                columns = whole
                if causal != 0:
                    columns = max(min(whole, q0 + rows - k0), 0)
                at_q = q + n * q_n + h * q_h + q0 * q_t
                at_g = g + n * g_n + h * g_h + q0 * g_t
                at_out = out + n * out_n + h * out_h + q0 * out_t
{_pack_rows(16, "at_q", "q_t", "rows_q", "rows", "inner")}
{_pack_rows(16, "at_g", "g_t", "rows_g", "rows", "width")}
{_scores(16, "at_q", "q_t", "turned_k", "words", "scores")}
{_scores(16, "at_g", "g_t", "turned_v", "width_words", "slopes")}
                for i in range(rows):
{indent(SEEN.strip(), " " * 20)}
                    shift = load_float32(log_sum, head * queries + q0 + i)
                    if shift == nothing:
                        shift = float32(0)
                    inner_product = float32(0)
                    g_line = at_g + i * g_t
                    out_line = at_out + i * out_t
                    for c in range(width):
                        inner_product += load_bfloat16(g_line, c) * load_bfloat16(out_line, c)
                    slope = slopes + i * {4 * PITCH}
                    weight = weights + i * {2 * PITCH}
                    round_ = rounded + i * {2 * PITCH}
                    for c in range(limit):
                        independent()
                        w = exp(load_float32(line, c) - shift)
                        store_bfloat16(weight, c, w)
                        d = w * (load_float32(slope, c) - inner_product) * scale
                        store_bfloat16(round_, c, d)
                    for c in range(limit, columns + columns % 2):
                        store_bfloat16(weight, c, float32(0))
                        store_bfloat16(round_, c, float32(0))
{indent(_WORDS.strip(), " " * 16)}
{
    _sums(
        16,
        True,
        a="weight_words",
        b="rows_g",
        b_panel=f"(rows + 1) // 2 * {4 * PANEL}",
        c="sums_v",
        c_row="width_row",
        m="columns",
        n="width",
        add="1",
    )
}
{
    _sums(
        16,
        True,
        a="slope_words",
        b="rows_q",
        b_panel=f"(rows + 1) // 2 * {4 * PANEL}",
        c="sums_k",
        c_row="inner_row",
        m="columns",
        n="inner",
        add="1",
    )
}
                add = min(k0, 1)
{
    _sums(
        16,
        False,
        a="rounded",
        b="rows_k",
        b_panel=f"(whole + 1) // 2 * {4 * PANEL}",
        c="sums_q + q0 * inner_row",
        c_row="inner_row",
        m="rows",
        n="inner",
        add="add",
    )
}
{_rounded(12, "whole", "inner", "at_gk, gk_t", "sums_k, inner_row")}
{_rounded(12, "whole", "width", "at_gv, gv_t", "sums_v, width_row")}
        at_gq = gq + n * gq_n + h * gq_h
{_rounded(8, "queries", "inner", "at_gq, gq_t", "sums_q, inner_row")}
    return 0
"""
