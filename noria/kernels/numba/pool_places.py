"""Max-pooling that keeps places, and its gradient from them, over one or two axes, channels-last.

Forward is that of `pool.py` with a number beside each largest. Backwards the picture is cut into
cells of one stride by one stride, which all look the same: an element of a cell is seen by windows
that begin in the same cell or in some before it, each at a place that the source knows. So every
gradient is written once, from registers, by whichever thread has its row; what was pooled is not
read. At borders windows that do not exist are given places that never match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import indent
from typing import NamedTuple

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need, typed
from noria.kernels.numba.norm_source import AHEAD
from noria.kernels.numba.pool import (
    HEAD,
    OTHERS,
    as_pictures,
    border_taps,
    count_of,
    pool_source,
    sizes_table,
    taps_of,
)
from noria.kernels.registry import (
    LAST,
    BoundOp,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.max_places import NOWHERE
from noria.ops.pool import pool_windows
from noria.ops.window import Windows

# Of x against the largest so far, v: larger, or the first NaN. Two comparisons of vectors.
_TAKEN = "not (x <= v) and not isnan(v)"


def forward(kernel: Sequence[int]) -> str:
    """a0: x, a1: out, a2: places."""
    first, *rest = (f"load_float32(a0, base + o{i}_{j} + c)" for i, j in taps_of(kernel))
    lines = [
        "for c in range(channels):",
        "    independent()",
        f"    v = {first}",
        "    k = int32(0)",
    ]
    for number, load in enumerate(rest, 1):
        lines += [f"    x = {load}", f"    taken = {_TAKEN}"]
        lines += ["    v = where(taken, x, v)", f"    k = where(taken, int32({number}), k)"]
    lines += ["    store_float32(a1, at + c, v)", "    store_uint8(a2, at + c, k)"]
    inside = "".join(f"\n                {line}" for line in lines)
    before = f"""
                for c in range(channels):
                    independent()
                    store_float32(a1, at + c, float32(-1e300))  # -inf
                    store_uint8(a2, at + c, {NOWHERE})"""
    body = f"""                                for c in range(channels):
                                    independent()
                                    v = load_float32(a1, at + c)
                                    x = load_float32(a0, tap + c)
                                    k = int32(load_uint8(a2, at + c))
                                    taken = k == int32({NOWHERE}) or ({_TAKEN})
                                    store_float32(a1, at + c, where(taken, x, v))
                                    number = int32(i * {kernel[1]} + j)
                                    store_uint8(a2, at + c, where(taken, number, k))"""
    return pool_source(kernel, "batch * out_h", inside, before, border_taps(kernel, body))


class Seen(NamedTuple):
    """A window that sees an element of a cell: so many cells up and left of it, and at what
    place."""

    up: int
    left: int
    place: int


def cell(windows: Windows) -> dict[tuple[int, int], list[Seen]]:
    """(row, column) in a cell -> who sees what is there; elements that no window sees are left
    out."""
    seen: dict[tuple[int, int], list[Seen]] = {}
    (dh, dw), (sh, sw) = windows.dilation, windows.stride
    for place, (i, j) in enumerate(taps_of(windows.kernel)):
        (up, row), (left, column) = divmod(i * dh, sh), divmod(j * dw, sw)
        seen.setdefault((row, column), []).append(Seen(up, left, place))
    return seen


# How many rows and columns of cells there are; what is known of the one of that number.
CELLS = """
    cells_h = (height - 1 + ph) // sh + 1
    cells_w = (width - 1 + pw) // sw + 1
    rows = batch * cells_h
"""
_ROW = """
n = number // cells_h
row = number % cells_h
h0 = row * sh - ph
whole = row >= UP and row < out_h and h0 >= 0 and h0 + HEIGHT <= height
"""
_CELL = """
w0 = column * sw - pw
to = ((n * height + h0) * width + w0) * channels
at = ((n * out_h + row) * out_w + column) * channels
ASK
if whole and column >= LEFT and column < out_w and w0 >= 0 and w0 + WIDTH <= width:
"""
# Elements that no window sees.
_GAPS = """
        low = max(h0, 0)
        size = width * channels * ITEMSIZE
        fill_bytes(a3 + (n * height + low) * size, 0, (min(h0 + sh, height) - low) * size)
"""


def backward(windows: Windows) -> str:
    """a0: gradient of out, a1: places, a3: gradient of x."""
    cells = Cells(cell(windows), ["store_float32(a3, HERE, g)"])
    gaps = len(cells.seen) < windows.stride[0] * windows.stride[1]
    return f"""{HEAD}{CELLS}
    for number in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):
{cells.row(8)}{_GAPS[1:] if gaps else ""}
        for column in range(cells_w):
{cells.column(12)}
    return 0
"""


@dataclass(frozen=True)
class Cells:
    """What is done with the elements of cells: `terms` at each, which is number HERE of a picture,
    with its gradient `g`; `head` and `end` before and after those of one channel c.
    `ahead`: what of the size of the picture is asked for before it is wanted.

    a0: gradient of what was pooled, a1: places
    """

    seen: Mapping[tuple[int, int], Sequence[Seen]]
    terms: Sequence[str]
    head: Sequence[str] = ()
    end: Sequence[str] = ()
    ahead: str = ""

    def row(self, depth: int) -> str:
        """Text of what is found out of row `number`."""
        return indent(self.counted(_ROW[1:]), " " * depth)

    def column(self, depth: int) -> str:
        """Text of what is done with the cell `column` of that row."""
        lines = [*self.offsets(), *self.within(), "else:", *self.exist(), *self.at_border()]
        begin = _CELL[1:].replace("ASK", "\n".join(self.asked()))
        return indent(self.counted(begin) + "\n".join(lines), " " * depth)

    @cached_property
    def begins(self) -> list[tuple[int, int]]:
        """In which cells, so many up and left, the windows begin that see an element."""
        return sorted({(s.up, s.left) for who in self.seen.values() for s in who})

    def counted(self, text: str) -> str:
        for name, number in (
            ("UP", max(up for up, _ in self.begins)),
            ("LEFT", max(left for _, left in self.begins)),
            ("HEIGHT", 1 + max(a for a, _ in self.seen)),
            ("WIDTH", 1 + max(b for _, b in self.seen)),
        ):
            text = text.replace(name, str(number))
        return text

    def asked(self) -> list[str]:
        """Requests for the numbers of a later cell."""
        if not self.ahead:
            return []
        rows = (f"to + {a} * width * channels" for a in range(1 + max(a for a, _ in self.seen)))
        asked = (f"    prefetch({self.ahead} + ({to}) * ITEMSIZE + {AHEAD} + k)" for to in rows)
        return ["for k in range(0, sw * channels * ITEMSIZE, 64):", *asked]

    def offsets(self) -> list[str]:
        """Where the windows lie behind one another in memory."""
        return [f"    f{u}_{k} = at - ({u} * out_w + {k}) * channels" for u, k in self.begins]

    def within(self) -> list[str]:
        """A cell whose windows all exist: one loop over the channels."""
        lines = ["independent()", *self.head]
        for u, k in self.begins:
            lines.append(f"k{u}_{k} = int32(load_uint8(a1, f{u}_{k} + c))")
            lines.append(f"g{u}_{k} = load_float32(a0, f{u}_{k} + c)")
        for place, who in self.seen.items():
            hits = (
                f"where(k{s.up}_{s.left} == int32({s.place}), g{s.up}_{s.left}, float32(0))"
                for s in who
            )
            lines += self.element(place, hits)
        return [
            "    for c in range(channels):",
            *(f"        {line}" for line in (*lines, *self.end)),
        ]

    def exist(self) -> list[str]:
        """At borders: windows that do not exist are read where there is one, and never match."""
        lines = []
        for u, k in self.begins:
            there = f"row >= {u} and row - {u} < out_h and column >= {k} and column - {k} < out_w"
            lines += [f"m{u}_{k} = int32(512)", f"f{u}_{k} = int64(0)"]
            lines += [f"if {there}:", f"    m{u}_{k} = int32(0)"]
            lines += [f"    f{u}_{k} = at - ({u} * out_w + {k}) * channels"]
        return [f"    {line}" for line in lines]

    def at_border(self) -> list[str]:
        """A cell some of whose elements or windows do not exist: a loop for each element."""
        lines = []
        for (a, b), who in self.seen.items():
            hits = (
                f"where(int32(load_uint8(a1, f{s.up}_{s.left} + c)) + m{s.up}_{s.left} =="
                f" int32({s.place}), load_float32(a0, f{s.up}_{s.left} + c), float32(0))"
                for s in who
            )
            inside = f"h0 + {a} >= 0 and h0 + {a} < height and w0 + {b} >= 0 and w0 + {b} < width"
            lines += [f"    if {inside}:", "        for c in range(channels):"]
            terms = ["independent()", *self.head, *self.element((a, b), hits), *self.end]
            lines += [f"            {term}" for term in terms]
        return lines

    def element(self, place: tuple[int, int], hits: Iterable[str]) -> list[str]:
        """The terms for the element there, whose gradient is the sum of the hits."""
        here = "to + ({} * width + {}) * channels + c".format(*place)
        total = " + ".join(hits) or "float32(0)"
        return [f"g = {total}", *(term.replace("HERE", here) for term in self.terms)]


class PoolPlaces(Kernel):
    """Both, on float32 or bfloat16 [N, C, H, W] or [N, C, L] in channels-last memory."""

    name = "numba:pool_places"
    ops = tuple(f"max_pool{n}d_{what}" for n in (1, 2) for what in ("places", "spread"))

    def accepts(self, op: Operator) -> None:
        need(op, ("float32", "bfloat16"), (0,))

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST] * len(op.inputs), [LAST] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        forwards = bound.op.type.endswith("places")
        image = bound.inputs[0] if forwards else bound.outputs[0]
        assert image is not None
        how = {k: v for k, v in bound.attrs.items() if k not in OTHERS}
        windows = as_pictures(pool_windows(image.shape[2:], **how))
        text = forward(windows.kernel) if forwards else backward(windows)
        source = typed(text, image.dtype)
        end = sizes_table(image, windows)
        moved = itemsize(image.dtype) * image.size
        moved += (itemsize(image.dtype) + 1) * count_of(image, windows)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, 0] if forwards else [*ins, 0, *outs]
            threads, ops = bound.threads, 4 * image.size
            call = launch(
                self.name, source, "pool", [*table, *end], threads=threads, bytes=moved, ops=ops
            )
            return [call]

        return Prepared(emit)


register(PoolPlaces())
