"""A step at one glance: its course by phase, layer and operator, and the bill by kind of operator.

Colour is how near it is to what the machine can do: `floor / time`, blue at the limit, red far from
it (the scale RdYlBu of ColorBrewer, which colour-blind readers can tell apart).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from noria.runtime.profiling.phases import ENGINE, PACK, REORDER, UPDATE
from noria.runtime.profiling.rows import Row
from noria.runtime.profiling.svg import FAINT, GRID, INK, Canvas, shortened

if TYPE_CHECKING:
    from noria.runtime.profiling.profile import Profile

_SCALE = ("#d73027", "#fc8d59", "#fee090", "#91bfdb", "#4575b4")
_BANDS = ("#e4e9ee", "#d3dae1")  # of neighbours, in turn
_WIDTH, _MARGIN = 1180.0, 24.0
KINDS = 12  # lines of the bill

Placed = tuple[float, float, Row]  # begins, ends (seconds), row


def picture(profile: Profile, title: str = "") -> str:
    """The picture as SVG. title: default the Program's name and sizes."""
    kinds = _kinds(profile)
    canvas = Canvas(_WIDTH, 312 + 24 * len(kinds), title or profile.name)
    canvas.text(_MARGIN, 34, title or profile.name, size=18, bold=True)
    canvas.text(_MARGIN, 55, _told(profile), color=FAINT)
    _scale(canvas, _WIDTH - _MARGIN - 200, 24)
    _timeline(canvas, profile, 78)
    _bill(canvas, profile, kinds, 270)
    return canvas.finish()


def color_of(near: float) -> str:
    """The colour of a share of the limit, 0 to 1."""
    at = min(max(near, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(at), len(_SCALE) - 2)
    mixed = (
        round(a + (b - a) * (at - low))
        for a, b in zip(_rgb(_SCALE[low]), _rgb(_SCALE[low + 1]), strict=True)
    )
    return "#" + "".join(f"{c:02x}" for c in mixed)


def nearness(rows: Sequence[Row]) -> float:
    """How near to the limit rows are together: floor / time, at most 1 each."""
    seconds = sum(r.seconds for r in rows)
    return sum(min(r.floor, r.seconds) for r in rows) / seconds if seconds else 1.0


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _told(profile: Profile) -> str:
    best = profile.peaks
    return (
        f"{profile.seconds * 1e3:,.1f} ms a step on {profile.threads} threads of {best.machine}; "
        f"the limit of its steps is {profile.floor * 1e3:,.1f} ms "
        f"({best.operations('float32') / 1e9:,.0f} GF/s float32, {best.memory / 1e9:.0f} GB/s)"
    )


def _scale(canvas: Canvas, x: float, y: float) -> None:
    """The legend of colours."""
    for i in range(100):
        canvas.rect(x + 2 * i, y, 2.2, 10, color_of(i / 99))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        canvas.text(x + 200 * share, y + 24, f"{share:.0%}", size=11, color=FAINT, anchor=anchor)
    canvas.text(x - 10, y + 9, "share of the limit", size=11, color=FAINT, anchor="end")


# ---- timeline ------------------------------------------------------------------------------------


def _timeline(canvas: Canvas, profile: Profile, top: float) -> None:
    """Four levels, each a partition of the one above: phase, layers, layer, operator."""
    placed = _placed(profile.rows)
    whole = max(placed[-1][1], 1e-12) if placed else 1e-12
    scale = (_WIDTH - 2 * _MARGIN) / whole
    aside = {ENGINE, REORDER, PACK, *([] if _is_apart(placed, UPDATE) else [UPDATE])}
    phase = _carried(placed, lambda r: "" if r.phase in aside else r.phase)
    layer = _carried(placed, lambda r: "" if r.phase in aside else r.layer)
    paths = [(p, *(name.split("."))) for p, name in zip(phase, layer, strict=True)]
    for depth, y, height in ((1, top, 20.0), (2, top + 22, 20.0), (3, top + 44, 20.0)):
        _bands(canvas, placed, [path[:depth] for path in paths], scale, y, height)
    for begin, end, row in placed:
        x, width = _MARGIN + begin * scale, (end - begin) * scale
        canvas.rect(x, top + 66, width, 64, color_of(nearness([row])), tip=_tip(row))
    y = top + 146
    canvas.text(_MARGIN, y, "0 ms", size=11, color=FAINT)
    end_label = f"{whole * 1e3:,.1f} ms"
    canvas.text(_WIDTH - _MARGIN, y, end_label, size=11, color=FAINT, anchor="end")
    note = (
        "each stripe an operator, as wide as it takes and coloured by how near it is to the limit"
    )
    canvas.text(_WIDTH / 2, y, note, size=11, color=FAINT, anchor="middle")


def _is_apart(placed: Sequence[Placed], phase: str) -> bool:
    """Does most of a phase run in one piece, instead of scattered among the others?"""
    stretches = [
        sum(end - begin for begin, end, _ in group)
        for kind, group in groupby(placed, lambda p: p[2].phase)
        if kind == phase
    ]
    return bool(stretches) and max(stretches) > 0.5 * sum(stretches)


def _placed(rows: Sequence[Row]) -> list[Placed]:
    """Rows one after the other: feeds first, then steps, then fetches."""
    now, found = 0.0, []
    for row in sorted(rows, key=lambda r: -1 if r.op == "feeds" else r.index):
        found.append((now, now + row.seconds, row))
        now += row.seconds
    return found


def _carried(placed: Sequence[Placed], name: Callable[[Row], str]) -> list[str]:
    """A name for each row; those without one belong to what comes next, the last to the last."""
    names = [name(row) for _, _, row in placed]
    following = next((n for n in reversed(names) if n), "")
    for i in range(len(names) - 1, -1, -1):
        following = names[i] or following
        names[i] = following
    return names


def _bands(
    canvas: Canvas,
    placed: Sequence[Placed],
    keys: Sequence[tuple[str, ...]],
    scale: float,
    y: float,
    height: float,
) -> None:
    """One band for each stretch of rows with the same key, its last part written upon it."""
    pairs = zip(keys, placed, strict=True)
    for i, (key, group) in enumerate(groupby(pairs, lambda pair: pair[0])):
        rows = [p for _, p in group]
        x, width = _MARGIN + rows[0][0] * scale, (rows[-1][1] - rows[0][0]) * scale
        label = ".".join(key[1:]) or key[0]
        share = f"{label}: {(rows[-1][1] - rows[0][0]) * 1e3:,.2f} ms"
        canvas.rect(x, y, max(width - 0.5, 0.3), height, _BANDS[i % 2], tip=share)
        text = shortened(label, 11, width - 4)
        if text == label:
            canvas.text(x + width / 2, y + 14, text, size=11, anchor="middle")


def _tip(row: Row) -> str:
    parts = [f"{row.op} {row.layer}".strip(), f"{row.seconds * 1e3:,.3f} ms, {row.kernel}"]
    parts += [f"{row.rate / 1e9:,.0f} GF/s, {row.bandwidth / 1e9:,.1f} GB/s, {row.source}"]
    return "\n".join(parts)


# ---- bill ----------------------------------------------------------------------------------------


def _kinds(profile: Profile) -> list[tuple[str, list[Row]]]:
    """Rows by kind of operator, the most expensive kinds first."""
    groups: dict[str, list[Row]] = {}
    for row in profile.rows:
        groups.setdefault(row.op, []).append(row)
    ordered = sorted(groups.items(), key=lambda pair: -sum(r.seconds for r in pair[1]))
    rest = [row for _, rows in ordered[KINDS:] for row in rows]
    return [*ordered[:KINDS], *([("others", rest)] if rest else [])]


def _bill(
    canvas: Canvas, profile: Profile, kinds: Sequence[tuple[str, list[Row]]], top: float
) -> None:
    """A bar for each kind: what it takes, of that in full colour what it cannot do without."""
    left, right = _MARGIN + 230, _WIDTH - _MARGIN - 330
    whole = max(profile.accounted, 1e-12)
    longest = max((sum(r.seconds for r in rows) for _, rows in kinds), default=1.0) or 1.0
    columns = (("ms", right + 70), ("share", right + 130), ("of limit", right + 195))
    for label, x in (*columns, ("bound by", right + 262), ("speed", right + 330)):
        canvas.text(x, top, label, size=11, color=FAINT, anchor="end")
    canvas.text(_MARGIN, top, "kind of operator", size=11, color=FAINT)
    for i, (kind, rows) in enumerate(kinds):
        y = top + 24 * (i + 1)
        seconds, near = sum(r.seconds for r in rows), nearness(rows)
        width = (right - left) * seconds / longest
        canvas.text(
            _MARGIN, y, shortened(f"{kind} ×{len(rows)}" if len(rows) > 1 else kind, 12, 225)
        )
        canvas.rect(left, y - 13, width, 17, GRID)
        canvas.rect(left, y - 13, width * near, 17, color_of(near))
        bound, speed = _bound(rows, profile)
        cells = (f"{seconds * 1e3:,.1f}", f"{seconds / whole:.1%}", f"{near:.0%}", bound, speed)
        places = (*(x for _, x in columns), right + 262, right + 330)
        for text, x in zip(cells, places, strict=True):
            canvas.text(x, y, text, color=INK, anchor="end")


def _bound(rows: Sequence[Row], profile: Profile) -> tuple[str, str]:
    """(what the floor of rows is made of, their speed in that unit)."""
    best = profile.peaks
    computing = sum(r.operations / best.operations(r.dtype) for r in rows)
    moving = sum(r.nbytes / best.bandwidth(r.nbytes) for r in rows)
    seconds = max(sum(r.seconds for r in rows), 1e-12)
    if computing > moving:
        return "products", f"{sum(r.operations for r in rows) / seconds / 1e9:,.0f} GF/s"
    return "memory", f"{sum(r.nbytes for r in rows) / seconds / 1e9:,.0f} GB/s"
