"""When each row of a bound plan ran: what the profiler and NORIA_DEBUG=2 are made of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from noria.runtime.buffers import Item
from noria.runtime.tape import Tape

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Span:
    """One row of the tape, or one Python step: what it is called, and when it ran.

    start, end: nanoseconds of `time.perf_counter_ns`
    """

    item: Item
    name: str
    start: int
    end: int

    @property
    def nanoseconds(self) -> int:
        return self.end - self.start


TimedAction = Callable[[], list[Span]]


def timed_tape(tape: Tape, makers: Sequence[Item]) -> TimedAction:
    """A tape that tells the times of its rows. makers: the item behind each row."""

    def run() -> list[Span]:
        times = tape.run_timed().tolist()
        calls = zip(makers, tape.calls, times, strict=True)
        return [Span(item, call.name, *when) for item, call, when in calls]

    return run


def timed_step(action: Action, item: Item) -> TimedAction:
    """A Python step that tells its time."""

    def run() -> list[Span]:
        start = time.perf_counter_ns()
        action()
        return [Span(item, engine_of(item), start, time.perf_counter_ns())]

    return run


def told(action: TimedAction, nbytes: Callable[[Item], float]) -> Action:
    """NORIA_DEBUG=2: a line on standard error for each item that ran.

    nbytes: what an item reads and writes
    """

    def run() -> None:
        for item, nanoseconds in by_item(action()):
            print(line(nanoseconds, nbytes(item), label(item)), file=sys.stderr)

    return run


def by_item(spans: Iterable[Span]) -> list[tuple[Item, int]]:
    """Nanoseconds of each item, whose rows follow one another."""
    groups = groupby(spans, attrgetter("item"))
    return [(item, sum(s.nanoseconds for s in rows)) for item, rows in groups]


def line(nanoseconds: int, nbytes: float, label: str) -> str:
    """Microseconds, MB, GB/s and what ran."""
    speed = nbytes / max(nanoseconds, 1)
    return f"{nanoseconds / 1e3:>11,.1f} us {nbytes / 1e6:>9.3f} MB {speed:>7.1f} GB/s  {label}"


def label(item: Item) -> str:
    """Kernel, operator, results."""
    if item.pack is not None:
        return f"{'pack':<22} {item.pack[1].name} for {item.step.op.type}"
    results = ", ".join(f"{v.name}: {v}" for v in item.outputs)
    return f"{engine_of(item):<22} {item.step.op.type} -> {results}"


def engine_of(item: Item) -> str:
    """Who runs an item at these sizes."""
    if item.pack is not None:
        return "pack"
    if item.reorders:
        return "copy"
    if item.step.view:
        return "view"
    return item.kernel.name if item.kernel is not None else "reference"
