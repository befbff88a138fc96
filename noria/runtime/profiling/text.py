"""A profile as tables: rows by what they lost, totals, copies between layouts, refused kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noria.core.errors import ArgumentError, nearest
from noria.core.tables import aligned
from noria.runtime.profiling.chart import byte_text, sparkline
from noria.runtime.profiling.denormals import LARGE
from noria.runtime.profiling.memory import CATEGORIES, MemoryProfile
from noria.runtime.profiling.phases import PACK, PHASES, REORDER
from noria.runtime.profiling.rows import Row

if TYPE_CHECKING:
    from noria.runtime.profiling.profile import Profile

SORTS: Mapping[str, Callable[[Row], float]] = {
    "lost": lambda r: -r.lost,
    "time": lambda r: -r.seconds,
    "bytes": lambda r: -r.nbytes,
    "operations": lambda r: -r.operations,
    "order": lambda r: r.index,
}
GROUPS: Mapping[str, Callable[[Row], str]] = {
    "op": lambda r: r.op,
    "kernel": lambda r: r.kernel,
    "layer": lambda r: r.layer or "-",
    "phase": lambda r: r.phase,
    "source": lambda r: r.source or "-",
}


@dataclass(frozen=True, slots=True)
class Table:
    """titles: '>' before a column of numbers; note: said below it."""

    heading: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def report(profile: Profile, **how: object) -> str:
    """Everything as plain text; options as of `tables`."""
    parts = [*summary(profile)]
    for table in tables(profile, **how):  # type: ignore[arg-type]
        parts += ["", table.heading, *aligned(table.titles, table.rows)]
        parts += [table.note] if table.note else []
    return "\n".join(parts)


def tables(
    profile: Profile, *, top: int = 20, sort: str = "lost", group: str | None = None
) -> list[Table]:
    """The tables of a profile.

    top: rows of the longest table, 0 for all; sort: a name of SORTS
    group: a name of GROUPS, by which steps are added up; None: each by itself
    Raises ArgumentError for other names.
    """
    _need("sort", sort, SORTS)
    if group is not None:
        _need("group", group, GROUPS)
    found = [_steps(profile, top, sort)] if group is None else [_grouped(profile, group, sort, top)]
    found += [_grouped(profile, kind, sort) for kind in ("op", "kernel") if kind != group]
    return [t for t in (*found, _copies(profile), _refused(profile), _denormals(profile)) if t.rows]


def summary(profile: Profile) -> list[str]:
    """What it was, how long it took, and the least it could take."""
    whole, accounted, best = profile.seconds, profile.accounted, profile.peaks
    sizes = sizes_text(profile.sizes)
    parts = {p: sum(r.seconds for r in profile.rows if r.phase == p) for p in PHASES}
    spread = ", ".join(f"{p} {ms(t)}" for p, t in parts.items() if t)
    products = ", ".join(f"{d} {r / 1e9:,.0f} GF/s" for d, r in best.products.items())
    caches = max(best.speeds.values())
    lost = max(whole - profile.floor, 0.0)
    return [
        f"{profile.name}: {sizes}; {profile.threads} thread{'s' * (profile.threads != 1)}; "
        f"medians of {len(profile.wholes)} runs",
        f"step      {ms(whole)} ms; steps and copies add up to {ms(accounted)} ms "
        f"({accounted / whole:.1%}): {spread}",
        f"floor     {ms(profile.floor)} ms ({profile.floor / whole:.1%} of the step); "
        f"lost {ms(lost)} ms",
        f"memory    {_memory(profile.memory)}",
        f"machine   {best.machine}: {products}; memory {best.memory / 1e9:,.1f} GB/s, "
        f"caches up to {caches / 1e9:,.0f} GB/s",
    ]


def _memory(memory: MemoryProfile) -> str:
    """The course of it, and where most is needed."""
    if not memory.items:
        return byte_text(memory.peak_bytes)
    after = memory.items[memory.peak :]
    op = next((i for i in after if i.pack is None and not i.reorders), after[0]).step.op
    alive = ", ".join(
        f"{name} {byte_text(n)}"
        for name, n in zip(CATEGORIES, memory.totals[:, memory.peak], strict=True)
        if n
    )
    return f"{byte_text(memory.peak_bytes)} in {op.where()}: {alive}\n          {sparkline(memory)}"


# ---- tables --------------------------------------------------------------------------------------

_NUMBERS = (">lost ms", ">time ms", ">share", ">floor ms", ">MB", ">GB/s", ">%", ">GF/s", ">%")


def _steps(profile: Profile, top: int, sort: str) -> Table:
    rows = sorted(profile.rows, key=SORTS[sort])
    shown = rows[: top or None]
    cells = [
        [*_numbers([r], profile), r.phase[:8], r.op, _kernel(r), _result(r), r.source]
        for r in shown
    ]
    rest = rows[len(shown) :]
    note = f"and {len(rest)} more: {ms(sum(r.seconds for r in rest))} ms" if rest else ""
    titles = [*_NUMBERS, "phase", "op", "kernel", "result", "line"]
    return Table(f"steps by {sort}", titles, cells, note)


def _grouped(profile: Profile, kind: str, sort: str, top: int = 0) -> Table:
    groups: dict[str, list[Row]] = {}
    for row in profile.rows:
        groups.setdefault(GROUPS[kind](row), []).append(row)
    added = sorted(groups.items(), key=lambda pair: _key(pair[1], sort))
    shown = added[: top or None]
    cells = [[*_numbers(rows, profile), str(len(rows)), name] for name, rows in shown]
    return Table(f"by {kind}", [*_NUMBERS, ">steps", kind], cells)


def _key(rows: Sequence[Row], sort: str) -> float:
    """Where a group stands: by the sum of its rows, or by its first one."""
    keys = [SORTS[sort](r) for r in rows]
    return min(keys) if sort == "order" else sum(keys)


def _numbers(rows: Sequence[Row], profile: Profile) -> list[str]:
    """The cells of _NUMBERS for rows taken together."""
    seconds, floor = sum(r.seconds for r in rows), sum(r.floor for r in rows)
    nbytes, operations = sum(r.nbytes for r in rows), sum(r.operations for r in rows)
    # Percent of the peaks: of the time that bytes alone, and operations alone, would take.
    moving = sum(r.nbytes / profile.peaks.bandwidth(r.nbytes) for r in rows)
    computing = sum(r.operations / profile.peaks.operations(r.dtype) for r in rows)
    lost, per = sum(r.lost for r in rows), max(seconds, 1e-12)
    return [
        *(ms(lost), ms(seconds), f"{seconds / max(profile.accounted, 1e-12):.1%}", ms(floor)),
        *(f"{nbytes / 1e6:,.2f}", f"{nbytes / per / 1e9:,.1f}", f"{moving / per:.0%}"),
        *(f"{operations / per / 1e9:,.1f}", f"{computing / per:.0%}"),
    ]


def _copies(profile: Profile) -> Table:
    """Every copy into another layout."""
    rows = [r for r in profile.rows if r.phase in (REORDER, PACK)]
    rows.sort(key=lambda r: -r.seconds)
    cells = [
        [ms(r.seconds), f"{r.nbytes / 1e6:,.2f}", r.op, next(iter(r.inputs), ""), _result(r)]
        for r in rows
    ]
    kinds = {kind: [r for r in rows if r.phase == kind] for kind in (REORDER, PACK)}
    told = ", ".join(
        f"{len(found)} {kind}{'s' * (len(found) != 1)}, "
        f"{sum(r.nbytes for r in found) / 1e6:,.2f} MB"
        for kind, found in kinds.items()
        if found
    )
    share = sum(r.seconds for r in rows) / max(profile.accounted, 1e-12)
    heading = f"copies into other layouts: {told} ({share:.1%} of the time)"
    return Table(heading, [">time ms", ">MB", "copy", "of", "as"], cells[:12])


def _refused(profile: Profile) -> Table:
    """Kernels that did not take a step, why, and what took it: by the time spent there."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in profile.rows:
        for kernel, why in row.refused:
            groups.setdefault((row.op, row.kernel, kernel, why), []).append(row)
    added = sorted(groups.items(), key=lambda pair: -sum(r.seconds for r in pair[1]))
    cells = [
        [ms(sum(r.seconds for r in rows)), str(len(rows)), op, kernel, f"{other}: {why}"]
        for (op, kernel, other, why), rows in added
    ]
    titles = [">time ms", ">steps", "op", "ran on", "and not on"]
    return Table("kernels that were asked first", titles, cells)


def _denormals(profile: Profile) -> Table:
    """Steps whose results hold many denormal numbers, where somebody looked for them."""
    rows = [r for r in profile.rows if (r.denormals or 0.0) >= LARGE]
    rows.sort(key=lambda r: -(r.denormals or 0.0))
    cells = [[f"{r.denormals:.0%}", ms(r.seconds), r.op, _result(r), r.source] for r in rows[:12]]
    more = f"and {len(rows) - 12} more; " if len(rows) > 12 else ""
    note = f"{more}numbers this small slow many kernels down: has training died out?"
    titles = [">denormal", ">time ms", "op", "result", "line"]
    return Table("warning: results with many denormal numbers", titles, cells, note)


# ---- cells ---------------------------------------------------------------------------------------


def sizes_text(sizes: Mapping[str, int]) -> str:
    """`N=16, T=35`."""
    return ", ".join(f"{k}={v}" for k, v in sorted(sizes.items())) or "fixed sizes"


def ms(seconds: float) -> str:
    """Milliseconds, with microseconds where they count."""
    value = seconds * 1e3
    return f"{value:,.1f}" if value >= 100 else f"{value:.3f}"


def _kernel(row: Row) -> str:
    return f"{row.kernel} {row.detail}" if row.detail else row.kernel


def _result(row: Row) -> str:
    if not row.outputs:
        return row.layer
    more = f" +{len(row.outputs) - 1}" if len(row.outputs) > 1 else ""
    return row.outputs[0] + more


def _need(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ArgumentError(f"unknown {what} '{name}'", hint=nearest(name, known))
