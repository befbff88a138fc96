"""`noria.profile`: where the time of a step goes, and where it could not go below.

The same rows of the same tape run as without it; between them a clock is read (20 ns a row). Runs
with and without the clock take turns, so that the sum of the steps can be held against the whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.core.files import atomic_write
from noria.runtime.bind import Bound
from noria.runtime.buffers import Item
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.runtime.profiling.chart import svg
from noria.runtime.profiling.denormals import denormal_shares
from noria.runtime.profiling.memory import MemoryProfile, memory_profile
from noria.runtime.profiling.peaks import Peaks, peaks
from noria.runtime.profiling.picture import picture
from noria.runtime.profiling.rows import Row, engine_rows, step_rows
from noria.runtime.profiling.text import report, sizes_text
from noria.runtime.profiling.trace import chrome_trace
from noria.runtime.timing import Span

WARM = 2  # runs that are not counted
EXCEEDED = 1.1  # times the peak: more cannot be
Tick = Callable[[float], None]  # called between runs with the share that is done


@dataclass(frozen=True, eq=False)
class Profile:
    """What was measured.

    name, sizes: of the Program and its symbols; threads: of each kernel
    rows:    the steps in the order of running
    wholes:  seconds of each whole step, measured without a clock inside
    peaks:   what the machine can do at best
    runs:    when each row of the tape ran, in each run
    bound:   what ran
    """

    name: str
    sizes: Mapping[str, int]
    threads: int
    rows: Sequence[Row]
    wholes: Sequence[float]
    peaks: Peaks
    runs: Sequence[Sequence[Span]]
    bound: Bound

    @property
    def seconds(self) -> float:
        """The median of the whole step."""
        return float(np.median(self.wholes))

    @property
    def accounted(self) -> float:
        """The sum of all rows."""
        return sum(row.seconds for row in self.rows)

    @property
    def floor(self) -> float:
        """Seconds nothing can beat, if the steps stay what they are."""
        return sum(row.floor for row in self.rows)

    @cached_property
    def memory(self) -> MemoryProfile:
        """What lies in memory at each step."""
        return memory_profile(self.bound)

    def to_chrome_trace(self, path: str | Path, *, last: int = 2) -> None:
        """Write the timeline of the last runs as JSON for https://ui.perfetto.dev."""
        trace = chrome_trace(
            self.name, self.rows, self.runs[-last:], self.memory, {"noria": self._about()}
        )
        atomic_write(path, json.dumps(trace).encode())

    def memory_chart(self, path: str | Path) -> None:
        """Write the memory over the step as an SVG picture."""
        starts, end = self.starts()
        title = f"{self.name}, {sizes_text(self.sizes)}: memory over a step"
        atomic_write(path, svg(self.memory, starts, end, title).encode())

    def picture(self, path: str | Path, *, title: str = "") -> None:
        """Write the step at one glance as an SVG picture. title: default the name and the sizes."""
        kind = "a training step" if self.bound.plan.program.updates else "a call"
        heading = title or f"{self.name}: {kind}, {sizes_text(self.sizes)}"
        atomic_write(path, picture(self, heading).encode())

    def to_json(self, path: str | Path) -> None:
        """Write all numbers: what it was, the machine, and a row for each step."""
        rows = [
            {**asdict(r), "seconds": r.seconds, "lost": r.lost, "rate": r.rate,
             "bandwidth": r.bandwidth}
            for r in self.rows
        ]  # fmt: skip
        atomic_write(path, json.dumps({**self._about(), "rows": rows}, indent=1).encode())

    def starts(self) -> tuple[list[float], float]:
        """(seconds at which each item began in the last run, seconds of all of it).

        Items that do nothing begin where the next one does.
        """
        spans = self.runs[-1]
        if not spans:
            return [0.0] * len(self.bound.items), 0.0
        origin, end = spans[0].start, spans[-1].end
        begun: dict[int, int] = {}
        for s in spans:
            begun.setdefault(id(s.item), s.start)
        starts: list[float] = []
        following = end
        for item in reversed(self.bound.items):
            following = begun.get(id(item), following)
            starts.append((following - origin) / 1e9)
        return starts[::-1], (end - origin) / 1e9

    def _about(self) -> dict[str, Any]:
        return {
            "program": self.name,
            "sizes": dict(self.sizes),
            "threads": self.threads,
            "step_seconds": list(self.wholes),
            "floor_seconds": self.floor,
            "peak_bytes": self.memory.peak_bytes,
            "arena_bytes": self.bound.arena_bytes,
            "machine": asdict(self.peaks),
        }

    def print(self, **how: Any) -> None:
        """The tables of `noria profile`, as plain text; see `text.tables` for options."""
        print(report(self, **how))


def profile(
    target: Executor | Predictor,
    feeds: Mapping[str, Any],
    fetch: Sequence[str] | None = None,
    *,
    steps: int = 10,
    denormals: bool = False,
    tick: Tick = lambda share: None,
) -> Profile:
    """Run some steps and tell where their time goes.

    target: its plan is profiled as it is; an Executor's state is what it was before, afterwards
    feeds:  name -> array; fetch: output names, default all
    steps:  runs with the clock, and as many without it; times are medians
    denormals: look for denormal numbers too, in one more run
    tick:   called between runs with the share that is done
    Raises MissingError, ShapeError or DTypeError for feeds that do not fit.
    """
    if steps < 1:
        raise ArgumentError("a profile needs a step", expected="steps >= 1", got=str(steps))
    names, bound, run = _chosen(target, feeds, fetch)
    best = peaks(bound.threads)
    clock = _Clock(bound, [feeds[v.name] for v in bound.plan.program.block.inputs], names)
    with _state_kept(target):
        shares = clock.denormals(target) if denormals else {}
    wholes: list[float] = []
    with _state_kept(target):
        for i in range(-WARM, steps):
            start = time.perf_counter()
            run()
            whole = time.perf_counter() - start
            clock.step(target, counts=i >= 0)
            if i >= 0:
                wholes.append(whole)
            tick((i + 1 + WARM) / (steps + WARM))
    rows = _rows(clock, names, best, shares)
    if any(r.rate > EXCEEDED * best.operations(r.dtype) for r in rows):
        best = peaks(bound.threads, fresh=True)  # something disturbed the measurement
        rows = _rows(clock, names, best, shares)
    name = bound.plan.program.name
    return Profile(name, bound.sizes, bound.threads, rows, wholes, best, clock.runs, bound)


@contextmanager
def _state_kept(target: Executor | Predictor) -> Iterator[None]:
    """State is what it was before, afterwards."""
    before = {name: target.scope[name] for name in target.program.updates}
    try:
        yield
    finally:
        for name, array in before.items():
            target.scope[name] = array


def _rows(
    clock: _Clock, names: Sequence[str], best: Peaks, shares: Mapping[Item, float]
) -> list[Row]:
    items, samples = clock.items()
    rows = step_rows(clock.bound, items, samples, best)
    rows = [replace(r, denormals=shares.get(i)) for i, r in zip(items, rows, strict=True)]
    return [*rows, *engine_rows(clock.bound, names, clock.around(), len(rows))]


def _chosen(
    target: Executor | Predictor, feeds: Mapping[str, Any], fetch: Sequence[str] | None
) -> tuple[tuple[str, ...], Bound, Callable[[], object]]:
    """(names of the outputs, what runs, a whole step of it)."""
    if isinstance(target, Executor):
        names = tuple(target.program.outputs if fetch is None else fetch)
        return names, target.bound(feeds, names), lambda: target.run(feeds, names)
    if fetch is not None:
        raise ArgumentError("a Predictor's outputs are chosen when it is made", got=str(fetch))
    return target.names, target.bound(feeds), lambda: target.run(feeds)


class _Clock:
    """Runs steps of a Bound with a clock inside."""

    def __init__(self, bound: Bound, feeds: Sequence[Any], names: Sequence[str]) -> None:
        self.bound, self.feeds, self.names = bound, feeds, names
        self.run = bound.timed()
        self.runs: list[list[Span]] = []
        self._around: dict[str, list[float]] = {"feeds": [], "fetch": [], "commit": []}

    def step(self, target: Executor | Predictor, *, counts: bool) -> None:
        """As `Executor.run` does it."""
        with target.scope.lock:
            times = [time.perf_counter()]
            for view, array in zip(self.bound.feeds, self.feeds, strict=True):
                view[...] = array
            times.append(time.perf_counter())
            if self.bound.epoch != self.bound.kept.epoch:
                self.bound.run_prologue()
            spans = self.run()
            times.append(time.perf_counter())
            for name in self.names:
                self.bound.fetch(name)
            times.append(time.perf_counter())
            self.bound.commit()
            times.append(time.perf_counter())
            if self.bound.plan.program.updates:
                target.scope.version += 1
                self.bound.kept.version = target.scope.version
        if counts:
            self.runs.append(spans)
            for i, name in zip((0, 2, 3), self._around, strict=True):
                self._around[name].append(times[i + 1] - times[i])

    def denormals(self, target: Executor | Predictor) -> dict[Item, float]:
        """The share of denormal numbers in what each item gives, in one step."""
        with target.scope.lock:
            self.bound.kept.follow(target.scope.version)
            self.bound.run_prologue()
            return denormal_shares(self.bound, self.feeds)

    def items(self) -> tuple[list[Item], list[list[float]]]:
        """(the items that ran, seconds of each in each run)."""
        order: list[Item] = []
        found: dict[Item, list[float]] = {}
        for spans in self.runs:
            for item, rows in groupby(spans, attrgetter("item")):
                if item not in found:
                    order.append(item)
                    found[item] = []
                found[item].append(sum(s.nanoseconds for s in rows) / 1e9)
        return order, [found[item] for item in order]

    def around(self) -> dict[str, list[float]]:
        """Seconds, in each run, of what the engine does before and after the steps."""
        return self._around
