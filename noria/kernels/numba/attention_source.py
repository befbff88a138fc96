"""The source of the attention kernels: loops over blocks, with products of `gemm.py` between them.

Each thread has its own scratch memory; a block's scores lie in it, PITCH numbers a row.

On bfloat16 products take pairs of numbers: operands are read as they are, the weights of a block
are rounded for the products that take them, and what is added up over blocks stays float32 in the
scratch memory until it is whole. Scores, softmax and sums are float32. There a word is two numbers
of a head, so heads of an odd size are left to the float32 form, where a word is one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from textwrap import indent

from noria.kernels.numba import gemm
from noria.kernels.numba.gemm import PANEL, packed_bytes
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import WIDTH

QUERIES, KEYS = 48, 128  # of a block: its scores fit the first cache
PITCH = KEYS + 16  # not a power of two, so that a column does not fall into few sets of the cache


def _pitch(size: int) -> int:
    """Floats from row to row of sums."""
    return -(-size // WIDTH) * WIDTH


# What lies where in a thread's scratch memory, as far as both forms have it.
_PRODUCT, _PACK, _TOP, _TOTAL = 0, LINE * 2, LINE * 3, LINE * 3 + 4 * QUERIES
_SCORES = whole_lines(_TOTAL + 4 * QUERIES)
_SLOPES = _SCORES + 4 * QUERIES * PITCH
_END = _SLOPES + 4 * QUERIES * PITCH


@dataclass(frozen=True, slots=True)
class _Form:
    """What pairs of bfloat16 do in another way than float32."""

    pairs: bool

    @property
    def dtype(self) -> str:
        """That of operands and results, and of weights and slopes as they are multiplied."""
        return "bfloat16" if self.pairs else "float32"

    @property
    def row(self) -> int:
        """Bytes from row to row of the weights that are multiplied."""
        return (2 if self.pairs else 4) * PITCH

    @property
    def places(self) -> tuple[int, int, int, int, int]:
        """Where weights and slopes lie as they are multiplied, row by row and then in words that
        run over rows, and where packed operands begin: for float32 they are the scores."""
        if not self.pairs:
            return _SCORES, _SLOPES, _SCORES, _SLOPES, _END
        first, second, third, fourth, end = (_END + 2 * QUERIES * PITCH * n for n in range(5))
        return first, second, third, fourth, end

    def words(self, count: str) -> str:
        """Words of so many numbers, some of which may be missing in the last."""
        return f"(({count} + 1) // 2)" if self.pairs else count

    def panels(self, rows: int) -> int:
        """Bytes of a panel of so many rows."""
        return (2 if self.pairs else 4) * PANEL * rows

    def in_float32(self, at: int, *lines: str) -> str:
        """Lines of source that only this form has."""
        return "" if self.pairs else indent("\n".join(lines), " " * at)

    def in_pairs(self, at: int, text: str) -> str:
        return indent(text.strip(), " " * at) if self.pairs else ""


def block_bytes(inner: int, width: int, queries: int, pairs: bool) -> int:
    """Bytes of scratch memory a thread needs for heads of these sizes (of q and k, of v)."""
    per = 2 if pairs else 1
    turned = packed_bytes(inner // per, KEYS) + packed_bytes(width // per, KEYS)
    rows = sum(packed_bytes(n // per, size) for n in (KEYS, QUERIES) for size in (inner, width))
    sums = 0
    if pairs:
        sums = 4 * max(KEYS * (_pitch(inner) + _pitch(width)), QUERIES * _pitch(width))
        sums += 4 * queries * _pitch(inner)
    return whole_lines(_Form(pairs).places[-1] + turned + rows + sums) + LINE


def _view(name: str) -> list[str]:
    return [name, *(f"{name}_{axis}" for axis in ("n", "h", "t"))]


_MASK = ["mask", "mask_kind", "mask_n", "mask_h", "mask_t", "mask_k"]
_SIZES = ["batch", "heads", "queries", "keys", "inner", "width"]
_HOW = ["scale_bits", "causal", "product", "packer", "scratch", "room"]
_LAST = [*_MASK, *_SIZES, *_HOW]
_OPERANDS = [*_view("q"), *_view("k"), *_view("v"), *_view("out"), "log_sum"]


def _loads(form: _Form, names: list[str]) -> str:
    """The table, which ends, for pairs, with what packs words of two rows."""
    names = [*names, *(["row_packer"] if form.pairs else [])]
    lines = reading(*names).splitlines()
    at = names.index("scale_bits")
    lines[at] = f"    scale = float32(load_float64(args, {at}))"
    return "\n".join(lines)


def _multiply(at: int, **fields: str) -> str:
    """C = A B of packed panels B: one line for each field of a product's table, then the call."""
    order = ("a", "b", "b_panel", "c", "m", "n", "a_row", "a_step", "b_row", "c_row", "k", "add")
    assert len(order) == gemm.FIELDS
    fields = {"b_panel": f"{fields['k']} * {4 * PANEL}", "b_row": f"{4 * PANEL}"} | fields
    lines = [f"store_int64(mine, {i}, {fields[name]})" for i, name in enumerate(order)]
    return indent("\n".join([*lines, "call1(product, mine)"]), " " * at)


def _pack(at: int, packer: str, *fields: str) -> str:
    lines = [f"store_int64(packing, {i}, {x})" for i, x in enumerate(fields)]
    return indent("\n".join([*lines, f"call1({packer}, packing)"]), " " * at)


def _pack_turned(at: int, source: str, row: str, target: str, words: str) -> str:
    """A block of keys or values, its heads' numbers one below the other."""
    return _pack(at, "packer", source, "4", row, target, words, "whole")


def _pack_rows(form: _Form, at: int, source: str, row: str, target: str, k: str, n: str) -> str:
    """A block as it lies, for products that add up over its rows."""
    if form.pairs:
        return _pack(at, "row_packer", source, row, target, k, n)
    return _pack(at, "packer", source, row, "4", target, k, n)


def _scores(at: int, a: str, row: str, b: str, words: str, c: str) -> str:
    """A product of rows of heads: rows x columns numbers."""
    sizes = {"m": "rows", "n": "columns", "k": words}
    return _multiply(
        at, a=a, a_row=row, a_step="4", b=b, c=c, c_row=f"{4 * PITCH}", add="0", **sizes
    )


def _over_keys(form: _Form, at: int, **fields: str) -> str:
    """Weights or slopes by what was packed of all keys of the block, some of which are not seen."""
    panel = f"{form.words('whole')} * {4 * PANEL}"
    known = {"a_row": f"{form.row}", "a_step": "4", "m": "rows", "k": form.words("columns")}
    return _multiply(at, b_panel=panel, add="min(k0, 1)", **known, **fields)


def _over_rows(form: _Form, at: int, **fields: str) -> str:
    """Weights or slopes, turned, by what was packed of the queries of the block."""
    known = {"a_row": "4", "a_step": f"{4 * PITCH}", "m": "columns", "k": form.words("rows")}
    return _multiply(at, add="1", **known, **fields)


def _thread(form: _Form) -> str:
    weights, *_, packed = form.places
    per = " // 2" if form.pairs else ""
    return f"""
    nothing = -float32(1) / float32(0)
    mine = scratch + thread_id() * room
    packing = mine + {_PACK}
    scores = mine + {_SCORES}
    weights = mine + {weights}
    turned_k = mine + {packed}
    words = inner{per}
    width_words = width{per}
    inner_row = (inner + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH}
    width_row = (width + {WIDTH - 1}) // {WIDTH} * {4 * WIDTH}
    panels_k = (inner + {PANEL - 1}) // {PANEL}
    panels_v = (width + {PANEL - 1}) // {PANEL}
"""


# The part of row `i` of the block that its query may see, scaled and masked: columns 0 .. limit.
_SEEN = f"""
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


@cache
def forward(pairs: bool) -> str:
    """Function `attend`; pairs: of bfloat16."""
    form = _Form(pairs)
    return f"""
def attend(args):
{_loads(form, [*_OPERANDS, *_LAST])}
{_thread(form)}
    tops = mine + {_TOP}
    totals = mine + {_TOTAL}
    packed_v = turned_k + words * {4 * KEYS}
    sums_v = packed_v + panels_v * {form.panels(KEYS)}
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
        sums = {"sums_v" if pairs else "at_out"}
        sums_row = {"width_row" if pairs else "out_t"}
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
{_pack_turned(16, "at_k", "k_t", "turned_k", "words")}
{_pack_rows(form, 16, "at_v", "v_t", "packed_v", "whole", "width")}
                packed = head
{_scores(12, "at_q", "q_t", "turned_k", "words", "scores")}
            for i in range(rows):
{indent(_SEEN.strip(), " " * 16)}
                old = load_float32(tops, i)
                top = old
                for c in range(limit):
                    top = maximum(top, load_float32(line, c))
                shift = top
                if top == nothing:
                    shift = float32(0)
                total = float32(0)
                weight = weights + i * {form.row}
                for c in range(limit):
                    independent()
                    e = exp(load_float32(line, c) - shift)
                    store_{form.dtype}(weight, c, e)
                    total += e
                for c in range(limit, {"columns + columns % 2" if pairs else "columns"}):
                    store_{form.dtype}(weight, c, float32(0))
                factor = exp(old - shift)
                store_float32(tops, i, top)
                store_float32(totals, i, load_float32(totals, i) * factor + total)
                if k0 > 0:
                    to = sums + i * sums_row
                    for c in range(width):
                        independent()
                        store_float32(to, c, load_float32(to, c) * factor)
{_over_keys(form, 12, a="weights", b="packed_v", c="sums", c_row="sums_row", n="width")}
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
            found = sums + i * sums_row
            for c in range(width):
                independent()
                store_{form.dtype}(to, c, load_float32(found, c) * factor)
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


def _rounded(form: _Form, at: int, count: str, size: str, result: str) -> str:
    """Sums of pairs as they are stored; those of float32 lie where they belong."""
    lines = f"""
for i in range({count}):
    target = at_g{result} + i * g{result}_t
    source = sums_{result} + i * row_{result}
    for c in range({size}):
        independent()
        store_bfloat16(target, c, load_float32(source, c))
"""
    return form.in_pairs(at, lines)


def _backward_room(form: _Form) -> str:
    """Where a thread has what it packs, and, for pairs, its sums."""
    _, rounded, weight_words, slope_words, _ = form.places
    room = f"""
    slopes = mine + {_SLOPES}
    rounded = mine + {rounded}
    weight_words = mine + {weight_words}
    slope_words = mine + {slope_words}
    turned_v = turned_k + words * {4 * KEYS}
    rows_k = turned_v + width_words * {4 * KEYS}
    rows_q = rows_k + panels_k * {form.panels(KEYS)}
    rows_g = rows_q + panels_k * {form.panels(QUERIES)}
"""
    sums = f"""
sums_k = rows_g + panels_v * {form.panels(QUERIES)}
sums_v = sums_k + inner_row * {KEYS}
sums_q = sums_v + width_row * {KEYS}
row_k = inner_row
row_v = width_row
row_q = inner_row
"""
    return room + form.in_pairs(4, sums)


@cache
def backward(pairs: bool) -> str:
    """Function `attend`, the gradients in q, k and v; pairs: of bfloat16."""
    form = _Form(pairs)
    results = [*_view("g"), *_view("gq"), *_view("gk"), *_view("gv")]
    load = f"load_{form.dtype}"
    return f"""
def attend(args):
{_loads(form, [*_OPERANDS, *results, *_LAST])}
{_thread(form)}
{_backward_room(form)}
    team = team_size()
    first = batch * heads * thread_id() // team
    for head in range(first, batch * heads * (thread_id() + 1) // team):
        n = head // heads
        h = head - n * heads
        at_gq = gq + n * gq_n + h * gq_h
{form.in_float32(8, "sums_q = at_gq", "row_q = gq_t")}
        for k0 in range(0, keys, {KEYS}):
            whole = min(keys - k0, {KEYS})
            at_k = k + n * k_n + h * k_h + k0 * k_t
            at_v = v + n * v_n + h * v_h + k0 * v_t
            at_gk = gk + n * gk_n + h * gk_h + k0 * gk_t
            at_gv = gv + n * gv_n + h * gv_h + k0 * gv_t
{form.in_float32(12, "sums_k = at_gk", "row_k = gk_t", "sums_v = at_gv", "row_v = gv_t")}
{_pack_turned(12, "at_k", "k_t", "turned_k", "words")}
{_pack_turned(12, "at_v", "v_t", "turned_v", "width_words")}
{_pack_rows(form, 12, "at_k", "k_t", "rows_k", "whole", "inner")}
            for i in range(whole):
                fill_bytes(sums_k + i * row_k, 0, inner * 4)
                fill_bytes(sums_v + i * row_v, 0, width * 4)
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
{_pack_rows(form, 16, "at_q", "q_t", "rows_q", "rows", "inner")}
{_pack_rows(form, 16, "at_g", "g_t", "rows_g", "rows", "width")}
{_scores(16, "at_q", "q_t", "turned_k", "words", "scores")}
{_scores(16, "at_g", "g_t", "turned_v", "width_words", "slopes")}
                for i in range(rows):
{indent(_SEEN.strip(), " " * 20)}
                    shift = load_float32(log_sum, head * queries + q0 + i)
                    if shift == nothing:
                        shift = float32(0)
                    inner_product = float32(0)
                    g_line = at_g + i * g_t
                    out_line = at_out + i * out_t
                    for c in range(width):
                        inner_product += {load}(g_line, c) * {load}(out_line, c)
                    slope = slopes + i * {4 * PITCH}
                    weight = weights + i * {form.row}
                    round_ = rounded + i * {form.row}
                    for c in range(limit):
                        independent()
                        w = exp(load_float32(line, c) - shift)
                        store_{form.dtype}(weight, c, w)
                        d = w * (load_float32(slope, c) - inner_product) * scale
                        store_{form.dtype}(round_, c, d)
                    for c in range(limit, {"columns + columns % 2" if pairs else "columns"}):
                        store_{form.dtype}(weight, c, float32(0))
                        store_{form.dtype}(round_, c, float32(0))
{form.in_pairs(16, _WORDS)}
{_over_rows(form, 16, a="weight_words", b="rows_g", c="sums_v", c_row="row_v", n="width")}
{_over_rows(form, 16, a="slope_words", b="rows_q", c="sums_k", c_row="row_k", n="inner")}
                at_sums = sums_q + q0 * row_q
{_over_keys(form, 16, a="rounded", b="rows_k", c="at_sums", c_row="row_q", n="inner")}
{_rounded(form, 12, "whole", "inner", "k")}
{_rounded(form, 12, "whole", "width", "v")}
{_rounded(form, 8, "queries", "inner", "q")}
    return 0
"""
