"""The source of a loop that maps: every point is computed and stored, nothing is reduced."""

from __future__ import annotations

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


def map_source(form: Form) -> str:
    """One thread takes a stretch of the flattened space, row by row of the innermost axis."""
    out, operands = Source(), Operands(form)
    (before, row, _, point), _ = operands.statements()
    out.put(f"count = {product(range(len(form.reduced)))}")
    out.put(*share("at", "end", "count", GRAIN), *before)
    inner = f"n{form.inner}"
    if not form.kept_axes:
        _inner_loop(out, "at", "end", point)
        return out.function("map", table_layout(form))
    out.put(f"row = at // {inner}", f"low = at % {inner}", *unravel("row", form.kept_axes))
    with out.block("while at < end:"):
        out.put(*operands.pointers("q"), *row)
        out.put(f"high = min({inner}, low + end - at)")
        _inner_loop(out, "low", "high", point)
        out.put("at += high - low", "low = 0")
        _next_row(out, form.kept_axes)
    return out.function("map", table_layout(form))


def _inner_loop(out: Source, low: str, high: str, statements: list[str]) -> None:
    with out.block(f"for i in range({low}, {high}):"):
        out.put("independent()", *statements)


def _next_row(out: Source, axes: list[int]) -> None:
    """Counts the places of the outer axes on by one, the last axis first."""
    *outer, last = axes
    out.put(f"x{last} += 1")
    if outer:
        with out.block(f"if x{last} == n{last}:"):
            out.put(f"x{last} = 0")
            _next_row(out, outer)
