"""The source of the attention kernels: loops over blocks, with products of `gemm.py` between them.

Each thread has its own scratch memory; a block's scores lie in it, PITCH numbers a row.
"""

from __future__ import annotations

from textwrap import indent

from noria.kernels.numba import gemm
from noria.kernels.numba.gemm import PANEL, packed_bytes

QUERIES, KEYS = 48, 128  # of a block: its scores fit the first cache
PITCH = KEYS + 16  # not a power of two, so that a column does not fall into few sets of the cache
LINE = 64


def lines_of(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


# What lies where in a thread's scratch memory.
_PRODUCT, PACK, TOP, TOTAL = 0, LINE * 2, LINE * 3, LINE * 3 + 4 * QUERIES
_SCORES = lines_of(TOTAL + 4 * QUERIES)
_SLOPES = _SCORES + 4 * QUERIES * PITCH
_PACKED = _SLOPES + 4 * QUERIES * PITCH


def block_bytes(inner: int, width: int) -> int:
    """Bytes of scratch memory a thread needs for heads of these sizes (of q and k, of v)."""
    turned = packed_bytes(inner, KEYS) + packed_bytes(width, KEYS)
    rows = packed_bytes(KEYS, inner) + packed_bytes(KEYS, width)
    rows += packed_bytes(QUERIES, inner) + packed_bytes(QUERIES, width)
    return lines_of(_PACKED + turned + rows) + LINE


def view(name: str) -> list[str]:
    return [name, *(f"{name}_{axis}" for axis in ("n", "h", "t"))]


MASK = ["mask", "mask_kind", "mask_n", "mask_h", "mask_t", "mask_k"]
SIZES = ["batch", "heads", "queries", "keys", "inner", "width"]
HOW = ["scale_bits", "causal", "product", "packer", "scratch", "room"]
OPERANDS = [*view("q"), *view("k"), *view("v")]


def loads(names: list[str]) -> str:
    lines = [f"    {name} = load_int64(args, {i})" for i, name in enumerate(names)]
    at = names.index("scale_bits")
    lines[at] = f"    scale = float32(load_float64(args, {at}))"
    return "\n".join(lines)


def multiply(at: int, **fields: str) -> str:
    """C = A B: one line for each field of a product's table, then the call."""
    order = ("a", "b", "b_panel", "c", "m", "n", "a_row", "a_step", "b_row", "c_row", "k", "add")
    assert len(order) == gemm.FIELDS
    lines = [f"store_int64(mine, {i}, {fields[name]})" for i, name in enumerate(order)]
    return indent("\n".join([*lines, "call1(product, mine)"]), " " * at)


def pack(at: int, source: str, row: str, step: str, target: str, k: str, n: str) -> str:
    lines = [
        f"store_int64(packing, {i}, {x})" for i, x in enumerate((source, row, step, target, k, n))
    ]
    return indent("\n".join([*lines, "call1(packer, packing)"]), " " * at)


def _scores(at: int) -> str:
    """Scores of the block: rows x columns, not yet scaled."""
    return multiply(
        at,
        a="at_q",
        a_row="q_t",
        a_step="4",
        b="turned_k",
        b_panel=f"inner * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="scores",
        c_row=f"{4 * PITCH}",
        m="rows",
        n="columns",
        k="inner",
        add="0",
    )


_THREAD = f"""
    nothing = -float32(1) / float32(0)
    mine = scratch + thread_id() * room
    packing = mine + {PACK}
    scores = mine + {_SCORES}
    turned_k = mine + {_PACKED}
"""

# The part of row `i` of the block that its query may see, scaled and masked: columns 0 .. limit.
SEEN = f"""
line = scores + i * {4 * PITCH}
limit = columns
if causal != 0:
    limit = max(min(columns, q0 + i + 1 - k0), 0)
if mask_kind == 0:
    for c in range(limit):
        independent()
        store_float32(line, c, load_float32(line, c) * scale)
else:
    seen = mask + n * mask_n + h * mask_h + (q0 + i) * mask_t + k0 * mask_k
    if mask_kind == 1:
        for c in range(limit):
            independent()
            more = load_float32(seen + c * mask_k, 0)
            store_float32(line, c, load_float32(line, c) * scale + more)
    else:
        for c in range(limit):
            independent()
            s = load_float32(line, c) * scale
            store_float32(line, c, where(load_bool(seen + c * mask_k, 0), s, nothing))
"""

FORWARD = f"""
def attend(args):
{loads([*OPERANDS, *view("out"), "log_sum", *MASK, *SIZES, *HOW])}
{_THREAD}
    tops = mine + {TOP}
    totals = mine + {TOTAL}
    packed_v = turned_k + inner * {4 * KEYS}
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
            if packed != head or keys > {KEYS}:
                at_k = k + n * k_n + h * k_h + k0 * k_t
                at_v = v + n * v_n + h * v_h + k0 * v_t
                whole = min(keys - k0, {KEYS})
{pack(16, "at_k", "4", "k_t", "turned_k", "inner", "whole")}
{pack(16, "at_v", "v_t", "4", "packed_v", "whole", "width")}
                packed = head
{_scores(12)}
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
                for c in range(limit):
                    independent()
                    e = exp(load_float32(line, c) - shift)
                    store_float32(line, c, e)
                    total += e
                for c in range(limit, columns):
                    store_float32(line, c, float32(0))
                factor = exp(old - shift)
                store_float32(tops, i, top)
                store_float32(totals, i, load_float32(totals, i) * factor + total)
                if k0 > 0:
                    to = at_out + i * out_t
                    for c in range(width):
                        independent()
                        store_float32(to, c, load_float32(to, c) * factor)
            add = min(k0, 1)
{
    multiply(
        12,
        a="scores",
        a_row=f"{4 * PITCH}",
        a_step="4",
        b="packed_v",
        b_panel=f"min(keys - k0, {KEYS}) * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="at_out",
        c_row="out_t",
        m="rows",
        n="width",
        k="columns",
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
            for c in range(width):
                independent()
                store_float32(to, c, load_float32(to, c) * factor)
        unit += stride
    return 0
"""

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
        ]
    )
}
{_THREAD}
    slopes = mine + {_SLOPES}
    panels_k = (inner + {PANEL - 1}) // {PANEL}
    panels_v = (width + {PANEL - 1}) // {PANEL}
    turned_v = turned_k + inner * {4 * KEYS}
    rows_k = turned_v + width * {4 * KEYS}
    rows_q = rows_k + panels_k * {4 * PANEL * KEYS}
    rows_g = rows_q + panels_k * {4 * PANEL * QUERIES}
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
{pack(12, "at_k", "4", "k_t", "turned_k", "inner", "whole")}
{pack(12, "at_v", "4", "v_t", "turned_v", "width", "whole")}
{pack(12, "at_k", "k_t", "4", "rows_k", "whole", "inner")}
            for i in range(whole):
                fill_bytes(at_gk + i * gk_t, 0, inner * 4)
                fill_bytes(at_gv + i * gv_t, 0, width * 4)
            begin = 0
            if causal != 0:
                begin = k0 // {QUERIES} * {QUERIES}
            for q0 in range(begin, queries, {QUERIES}):
                rows = min(queries - q0, {QUERIES})
                columns = whole
                if causal != 0:
                    columns = min(whole, q0 + rows - k0)
                at_q = q + n * q_n + h * q_h + q0 * q_t
                at_g = g + n * g_n + h * g_h + q0 * g_t
                at_out = out + n * out_n + h * out_h + q0 * out_t
                at_gq = gq + n * gq_n + h * gq_h + q0 * gq_t
{pack(16, "at_q", "q_t", "4", "rows_q", "rows", "inner")}
{pack(16, "at_g", "g_t", "4", "rows_g", "rows", "width")}
{_scores(16)}
{
    multiply(
        16,
        a="at_g",
        a_row="g_t",
        a_step="4",
        b="turned_v",
        b_panel=f"width * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="slopes",
        c_row=f"{4 * PITCH}",
        m="rows",
        n="columns",
        k="width",
        add="0",
    )
}
                for i in range(rows):
{indent(SEEN.strip(), " " * 20)}
                    shift = load_float32(log_sum, head * queries + q0 + i)
                    if shift == nothing:
                        shift = float32(0)
                    inner_product = float32(0)
                    g_line = at_g + i * g_t
                    out_line = at_out + i * out_t
                    for c in range(width):
                        inner_product += load_float32(g_line, c) * load_float32(out_line, c)
                    slope = slopes + i * {4 * PITCH}
                    for c in range(limit):
                        independent()
                        w = exp(load_float32(line, c) - shift)
                        store_float32(line, c, w)
                        d = w * (load_float32(slope, c) - inner_product) * scale
                        store_float32(slope, c, d)
                    for c in range(limit, columns):
                        store_float32(line, c, float32(0))
                        store_float32(slope, c, float32(0))
{
    multiply(
        16,
        a="scores",
        a_row="4",
        a_step=f"{4 * PITCH}",
        b="rows_g",
        b_panel=f"rows * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="at_gv",
        c_row="gv_t",
        m="columns",
        n="width",
        k="rows",
        add="1",
    )
}
{
    multiply(
        16,
        a="slopes",
        a_row="4",
        a_step=f"{4 * PITCH}",
        b="rows_q",
        b_panel=f"rows * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="at_gk",
        c_row="gk_t",
        m="columns",
        n="inner",
        k="rows",
        add="1",
    )
}
                add = min(k0, 1)
{
    multiply(
        16,
        a="slopes",
        a_row=f"{4 * PITCH}",
        a_step="4",
        b="rows_k",
        b_panel=f"whole * {4 * PANEL}",
        b_row=f"{4 * PANEL}",
        c="at_gq",
        c_row="gq_t",
        m="rows",
        n="inner",
        k="columns",
        add="add",
    )
}
    return 0
"""
