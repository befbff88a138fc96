"""The source of loops that reduce, along the innermost axis (`rows`) or along others (`columns`).

Work is shared in one of two ways, which the table says: either each thread takes some of the
results, or (`split`) all threads take a part of the elements of every result, meet at a barrier,
and join their accumulators in the order of the threads. So a result depends on how many threads
there are, and not on which was faster.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.kernels.numba.codegen import (
    GRAIN,
    Form,
    Operands,
    Source,
    product,
    share,
    table_layout,
    unravel,
)
from noria.kernels.numba.reduction import Reduction, add_exactly, settle

EXTRA = ("scratch", "split", "area", "lane", "count")
"""In the table: the address of the accumulators, 1 to split elements, bytes of a thread's
accumulators and of one output's, elements that make a result."""

TILE = 1024  # columns whose accumulators stay in the first cache
BLOCK = 1024  # float64 elements between two exact additions
UNROLLED = 4  # rows for one load and store of the accumulators
CHEAP = 12  # operations at a point: with more, unrolling only costs time to compile


def reduce_source(form: Form) -> str:
    """The function `reduce` for a form with reduced outputs."""
    out = Source()
    write = _Rows if form.reduced[-1] else _Columns
    write(form, out).write()
    return out.function("reduce", table_layout(form, EXTRA))


class _Loop:
    """What both kinds share. Accumulator k is `a{k}`, in memory at address `m{k}`."""

    def __init__(self, form: Form, out: Source) -> None:
        self.form, self.out = form, out
        self.operands = Operands(form)
        self.places = [len(form.body.inputs) + o for o in form.body.results]
        self.reductions: list[Reduction] = []
        for o in form.body.results:
            reduction = form.body.outputs[o].reduction
            assert reduction is not None
            self.reductions.append(reduction)
        self.inner = f"n{form.inner}"

    def body(self, suffix: str = "") -> tuple[list[list[str]], list[str]]:
        """Statements of each loop, and what is accumulated at each point."""
        levels, outputs = self.operands.statements(suffix)
        values = [outputs[o] for o in self.form.body.results]
        return levels, [r.item(x) for r, x in zip(self.reductions, values, strict=True)]

    def enter_row(self, which: Sequence[int] | None = None) -> None:
        """Places and addresses in loop q."""
        self.out.put(*unravel("row", self.form.kept_axes))
        self.out.put(*self.operands.pointers("q", which=which))

    def finish(self, k: int) -> None:
        """Store a result from its accumulator."""
        lines, value = self.reductions[k].result(f"a{k}")
        self.out.put(*lines, self.operands.store(self.places[k], value))

    def load(self, k: int, address: str, index: str) -> str:
        return f"load_{self.reductions[k].dtype}({address}, {index})"

    def store(self, k: int, address: str, index: str, value: str) -> None:
        self.out.put(f"store_{self.reductions[k].dtype}({address}, {index}, {value})")


# ---- along the innermost axis ------------------------------------------------------------------


class _Rows(_Loop):
    """One result after the other, its accumulator in a register."""

    def write(self) -> None:
        out, form = self.out, self.form
        levels, items = self.body()
        out.put(f"rows = {product(form.kept_axes)}", *share("first", "last", "rows"))
        out.put("low = 0", f"high = {self.inner}")
        out.put("top = 0", f"bottom = {product(form.reduced_axes)}", "deep = bottom")
        with out.block("if split != 0:"):
            out.put("first = 0", "last = rows")
            along = ("top", "bottom", "deep") if form.reduced_axes else ("low", "high", self.inner)
            out.put(*share(*along, GRAIN if not form.reduced_axes else 1))
        out.put(*levels[0])
        with out.block("for row in range(first, last):"):
            self.enter_row()
            out.put(*levels[1])
            self._accumulate(levels, items)
            self._deliver()
        with out.block("if split != 0:"):
            out.put("barrier()", *share("first", "last", "rows"))
            with out.block("for row in range(first, last):"):
                self._join_threads()

    def _accumulate(self, levels: list[list[str]], items: list[str]) -> None:
        out, form = self.out, self.form
        for k, r in enumerate(self.reductions):
            out.put(f"a{k} = {r.start}", *([f"c{k} = float64(0)"] if r.in_blocks else []))
        if not form.reduced_axes:
            self._innermost(levels[3], items)
        else:
            with out.block("for deep in range(top, bottom):"):
                out.put(*unravel("deep", form.reduced_axes))
                out.put(*self.operands.pointers("r"), *levels[2])
                self._innermost(levels[3], items)
        for k, r in enumerate(self.reductions):
            if r.in_blocks:
                out.put(*settle(f"a{k}", f"c{k}"))

    def _innermost(self, point: list[str], items: list[str]) -> None:
        out = self.out
        blocks = [k for k, r in enumerate(self.reductions) if r.in_blocks]
        if not blocks:
            self._points("low", "high", point, items)
            return
        with out.block(f"for start in range(low, high, {BLOCK}):"):
            out.put(*(f"b{k} = float64(0)" for k in blocks))
            self._points("start", f"min(start + {BLOCK}, high)", point, items)
            for k in blocks:
                out.put(*add_exactly(f"a{k}", f"c{k}", f"b{k}"))

    def _points(self, low: str, high: str, point: list[str], items: list[str]) -> None:
        with self.out.block(f"for i in range({low}, {high}):"):
            self.out.put("independent()", *point)
            for k, (r, item) in enumerate(zip(self.reductions, items, strict=True)):
                name = f"b{k}" if r.in_blocks else f"a{k}"
                self.out.put(f"{name} = {r.join(name, item)}")

    def _deliver(self) -> None:
        """A result where it is complete, else this thread's part of it into the scratch."""
        out = self.out
        with out.block("if split != 0:"):
            for k in range(len(self.reductions)):
                self.store(k, f"scratch + me * area + {k} * lane", "row", f"a{k}")
        with out.block("else:"):
            for k in range(len(self.reductions)):
                self.finish(k)

    def _join_threads(self) -> None:
        out = self.out
        self.enter_row(self.places)
        for k, r in enumerate(self.reductions):
            out.put(f"m{k} = scratch + {k} * lane", f"a{k} = {self.load(k, f'm{k}', 'row')}")
            with out.block("for other in range(1, team):"):
                part = self.load(k, f"m{k} + other * area", "row")
                out.put(f"a{k} = {r.join(f'a{k}', part)}")
            self.finish(k)


# ---- along other axes --------------------------------------------------------------------------


class _Columns(_Loop):
    """A tile of neighbouring results at once, their accumulators in memory."""

    def write(self) -> None:
        out, form = self.out, self.form
        levels, _ = self.body()
        out.put(f"rows = {product(form.kept_axes)}")
        out.put(f"tiles = ({self.inner} + {TILE - 1}) // {TILE}")
        out.put(*share("first", "last", "rows * tiles"))
        out.put("top = 0", f"bottom = {product(form.reduced_axes)}", "deep = bottom")
        with out.block("if split != 0:"):
            out.put("first = 0", "last = rows * tiles", *share("top", "bottom", "deep"))
        out.put(*levels[0])
        with out.block("for tile in range(first, last):"):
            out.put("row = tile // tiles", f"low = tile % tiles * {TILE}")
            out.put(f"high = min({self.inner}, low + {TILE})")
            self.enter_row()
            out.put(*levels[1])
            self._accumulate()
            with out.block("if split == 0:"):
                self._finish_columns()
        with out.block("if split != 0:"):
            out.put("barrier()", *share("low", "high", self.inner, GRAIN))
            with out.block("for row in range(rows):"):
                self._join_threads()

    def _each_column(self, *lines: str) -> None:
        with self.out.block("for i in range(low, high):"):
            self.out.put("independent()", *lines)

    def _accumulate(self) -> None:
        out = self.out
        for k, r in enumerate(self.reductions):
            out.put(f"m{k} = scratch + me * area + {k} * lane")
            out.put(f"m{k} += (split * (row * {self.inner} + low) - low) * {r.itemsize}")
            self._each_column(f"store_{r.dtype}(m{k}, i, {r.start})")
        unrolled = 1
        if self.form.body.cost <= CHEAP:
            unrolled = (
                UNROLLED if len(self.places) == len(self.form.body.outputs) else UNROLLED // 2
            )
        out.put(f"whole = top + (bottom - top) // {unrolled} * {unrolled}")
        self._rows("top", "whole", unrolled)
        if unrolled > 1:
            self._rows("whole", "bottom", 1)

    def _rows(self, first: str, last: str, unrolled: int) -> None:
        """Several rows at a time into the accumulators."""
        out, axes = self.out, self.form.reduced_axes
        with out.block(f"for deep in range({first}, {last}, {unrolled}):"):
            points: list[str] = []
            totals = [self.load(k, f"m{k}", "i") for k in range(len(self.reductions))]
            for u in range(unrolled):
                suffix = f"u{u}" if unrolled > 1 else ""
                levels, items = self.body(suffix)
                out.put(*unravel(f"(deep + {u})", axes))
                out.put(*self.operands.pointers("r", suffix), *levels[2])
                points += levels[3]
                totals = [
                    r.join(t, item)
                    for r, t, item in zip(self.reductions, totals, items, strict=True)
                ]
            stores = [
                f"store_{r.dtype}(m{k}, i, {totals[k]})" for k, r in enumerate(self.reductions)
            ]
            self._each_column(*points, *stores)

    def _finish_columns(self) -> None:
        for k in range(len(self.reductions)):
            with self.out.block("for i in range(low, high):"):
                self.out.put("independent()", f"a{k} = {self.load(k, f'm{k}', 'i')}")
                self.finish(k)

    def _join_threads(self) -> None:
        out = self.out
        self.enter_row(self.places)
        for k, r in enumerate(self.reductions):
            out.put(f"m{k} = scratch + {k} * lane + row * {self.inner} * {r.itemsize}")
            with out.block("for other in range(1, team):"):
                out.put(f"part = m{k} + other * area")
                joined = r.join(self.load(k, f"m{k}", "i"), self.load(k, "part", "i"))
                self._each_column(f"store_{r.dtype}(m{k}, i, {joined})")
        self._finish_columns()
