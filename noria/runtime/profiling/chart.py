"""Memory over a step as a picture: stacked by what it is for, the peak marked with what lies there.

`svg` for files, `sparkline` for a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from noria.runtime.profiling.memory import CATEGORIES, STATE, MemoryProfile
from noria.runtime.profiling.phases import BACKWARD, FORWARD, UPDATE
from noria.runtime.profiling.svg import FAINT, INK, Canvas, shortened, ticks

COLORS = dict(zip(CATEGORIES, ("#8d99a6", "#2f6fb5", "#d9822b", "#5aa469", "#b07cc6"), strict=True))
PHASE_COLORS = {FORWARD: "#dbe7f5", BACKWARD: "#fbe5cf", UPDATE: "#bfe3c6"}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 360.0, 74.0, 46.0  # margins of the plot


def sparkline(memory: MemoryProfile, width: int = 64) -> str:
    """The total over the step in one line, each letter the largest of its stretch."""
    total = memory.total
    if not total.size:
        return ""
    edges = np.linspace(0, total.size, min(width, total.size) + 1).astype(int)
    tops = [total[a:b].max() for a, b in pairwise(edges)]
    largest = max(max(tops), 1)
    return "".join(_BLOCKS[max(1, round(8 * t / largest))] if t else " " for t in tops)


def svg(
    memory: MemoryProfile, starts: Sequence[float], seconds: float, title: str, entries: int = 10
) -> str:
    """The picture.

    starts:  seconds from the beginning at which each item runs, rising; seconds: the whole step
    entries: so many of what is alive at the peak are named
    """
    canvas = Canvas(1180, 480, title)
    plot = _Plot(canvas, memory, starts, seconds)
    canvas.text(_LEFT, 28, title, size=17, bold=True)
    canvas.text(_LEFT, 47, _told(memory), color=FAINT)
    plot.phases()
    plot.grid()
    plot.areas()
    plot.peak()
    _legend(canvas, memory, entries)
    return canvas.finish()


class _Plot:
    """The part with axes: x is time in the step, y bytes."""

    def __init__(
        self, canvas: Canvas, memory: MemoryProfile, starts: Sequence[float], seconds: float
    ) -> None:
        self.canvas, self.memory = canvas, memory
        self.seconds = max(seconds, 1e-12)
        self.edges = [*starts, seconds]  # item i runs from edge i to edge i + 1
        self.top = max(memory.peak_bytes, memory.arena_bytes + _state(memory), 1) * 1.1
        self.right, self.bottom = canvas.width - _RIGHT, canvas.height - _BOTTOM

    def x(self, seconds: float) -> float:
        return _LEFT + (self.right - _LEFT) * seconds / self.seconds

    def y(self, nbytes: float) -> float:
        return self.bottom - (self.bottom - _TOP) * nbytes / self.top

    def phases(self) -> None:
        """A band above the plot: forward and backward, with the updates drawn upon it."""
        kinds = self.memory.phases
        for phase in (FORWARD, BACKWARD):
            found = [i for i, kind in enumerate(kinds) if kind == phase]
            if found:
                left = self._band(found[0], found[-1], phase)
                right = self.x(self.edges[found[-1] + 1])
                label = phase if right - left > 8 * len(phase) else ""
                middle = (left + right) / 2
                self.canvas.text(middle, _TOP - 5, label, size=11, color=FAINT, anchor="middle")
        for i, kind in enumerate(kinds):
            if kind == UPDATE:
                self._band(i, i, UPDATE)

    def _band(self, first: int, last: int, phase: str) -> float:
        """From one item to another; where it begins."""
        left, right = self.x(self.edges[first]), self.x(self.edges[last + 1])
        self.canvas.rect(left, _TOP - 16, right - left, 14, PHASE_COLORS[phase], tip=phase)
        return left

    def grid(self) -> None:
        scale, unit = byte_unit(self.top)
        for tick in ticks(self.top / scale):
            y = self.y(tick * scale)
            self.canvas.line(_LEFT, y, self.right, y)
            self.canvas.text(_LEFT - 8, y + 4, f"{tick:g}", size=11, color=FAINT, anchor="end")
        self.canvas.text(_LEFT - 8, _TOP - 5, unit, size=11, color=FAINT, anchor="end")
        for tick in ticks(self.seconds * 1e3, 8):
            x = self.x(tick / 1e3)
            self.canvas.line(x, self.bottom, x, self.bottom + 4, FAINT)
            self.canvas.text(
                x, self.bottom + 18, f"{tick:g}", size=11, color=FAINT, anchor="middle"
            )
        middle = (_LEFT + self.right) / 2
        self.canvas.text(
            middle, self.bottom + 36, "ms of the step", size=11, color=FAINT, anchor="middle"
        )

    def areas(self) -> None:
        """Each category as a staircase upon those below it."""
        below = np.zeros(len(self.edges) - 1)
        for name, row in zip(CATEGORIES, self.memory.totals, strict=True):
            above = below + row
            if row.any():
                up = list(self._stairs(above))
                down = list(self._stairs(below))[::-1]
                self.canvas.polygon([*up, *down], COLORS[name])
            below = above
        reserved = self.y(self.memory.arena_bytes + _state(self.memory))
        self.canvas.line(_LEFT, reserved, self.right, reserved, FAINT, dash="5 4")
        self.canvas.text(_LEFT + 6, reserved - 5, "arena and state", size=11, color=FAINT)

    def _stairs(self, heights: np.ndarray) -> list[tuple[float, float]]:
        """Corners, without those that lie on a line or closer than half a pixel."""
        points: list[tuple[float, float]] = []
        for i, height in enumerate(heights):
            left, right, y = self.x(self.edges[i]), self.x(self.edges[i + 1]), self.y(height)
            if points and abs(points[-1][1] - y) < 0.01:
                points[-1] = (right, y)
            else:
                points += [(left, y), (right, y)]
        return points

    def peak(self) -> None:
        if not self.memory.totals.size:
            return
        at = self.memory.peak
        x = self.x((self.edges[at] + self.edges[at + 1]) / 2)
        y = self.y(self.memory.peak_bytes)
        self.canvas.line(x, y, x, self.bottom, INK, dash="2 3")
        self.canvas.polygon([(x, y - 2), (x - 5, y - 11), (x + 5, y - 11)], INK)
        near_end = x > (_LEFT + self.right) * 0.6
        self.canvas.text(
            x + (-9 if near_end else 9),
            y - 9,
            f"peak {byte_text(self.memory.peak_bytes)}",
            bold=True,
            anchor="end" if near_end else "start",
        )


def _legend(canvas: Canvas, memory: MemoryProfile, entries: int) -> None:
    """What the colours mean, with bytes at the peak, and the largest that lie there."""
    left, right, y = canvas.width - _RIGHT + 28, canvas.width - 16, _TOP - 5
    canvas.text(left, y, "at the peak", bold=True)
    at = memory.peak
    for i in range(len(CATEGORIES) - 1, -1, -1):
        nbytes = int(memory.totals[i, at]) if memory.totals.size else 0
        y += 19
        canvas.rect(left, y - 10, 12, 12, COLORS[CATEGORIES[i]])
        canvas.text(left + 19, y, CATEGORIES[i])
        canvas.text(right, y, byte_text(nbytes), anchor="end")
    y += 30
    canvas.text(left, y, "the largest alive there", bold=True)
    alive = [b for b in memory.at(at) if b.category != STATE]
    for b in alive[:entries]:
        y += 18
        canvas.rect(left, y - 9, 6, 10, COLORS[b.category])
        place = f"{b.op}  {b.source}" if b.source else f"{b.op}  {b.name}"
        canvas.text(left + 12, y, shortened(place, 11, right - left - 80), size=11, color=INK)
        canvas.text(right, y, byte_text(b.nbytes), size=11, anchor="end")
    rest = alive[entries:]
    if rest:
        more = f"and {len(rest)} more: {byte_text(sum(b.nbytes for b in rest))}"
        canvas.text(left + 12, y + 18, more, size=11, color=FAINT)


def _told(memory: MemoryProfile) -> str:
    return (
        f"largest live set {byte_text(memory.peak_bytes)}, of which state "
        f"{byte_text(_state(memory))}; arena {byte_text(memory.arena_bytes)}"
    )


def _state(memory: MemoryProfile) -> int:
    return sum(b.nbytes for b in memory.live if b.category == STATE)


def byte_unit(largest: float) -> tuple[float, str]:
    """(bytes of a unit in which the largest number has few digits, its name)."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= scale:
            return scale, unit
    return 1.0, "B"


def byte_text(nbytes: float) -> str:
    """`1.25 GB`."""
    scale, unit = byte_unit(nbytes)
    return f"{nbytes / scale:.4g} {unit}"
