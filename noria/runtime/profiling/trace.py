"""A profile as a timeline that Perfetto and chrome://tracing open.

The Trace Event Format (Google, 2016): complete events ("X") for what ran, nested where an item has
several rows of the tape; flows ("s", "t", "f") from the forward part of a layer through its
backward part to its update; a counter ("C") of the memory in use; metadata ("M") for names.
Times are microseconds from the first event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from noria.runtime.profiling.memory import CATEGORIES, MemoryProfile
from noria.runtime.profiling.phases import BACKWARD, FORWARD, PACK, REORDER, UPDATE
from noria.runtime.profiling.rows import Row
from noria.runtime.timing import Span

Event = dict[str, Any]
PROCESS = 1
PHASE_TRACK, STEP_TRACK = 1, 2
_MAIN = (FORWARD, BACKWARD, UPDATE)


def chrome_trace(
    name: str,
    rows: Sequence[Row],
    runs: Sequence[Sequence[Span]],
    memory: MemoryProfile,
    about: dict[str, Any],
) -> dict[str, Any]:
    """The trace of some runs, one after the other as they happened.

    rows: of the profile, of which row i is what item i of each run did
    runs: when each row of the tape ran
    memory: of the same plan; about: what else is to be known of it
    """
    origin = min((spans[0].start for spans in runs if spans), default=0)
    events = list(_names(name))
    for number, spans in enumerate(runs):
        events += _run(number, rows, spans, origin, memory)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _names(name: str) -> Iterator[Event]:
    for kind, track, args in (
        ("process_name", 0, {"name": f"noria: {name}"}),
        ("thread_name", PHASE_TRACK, {"name": "phase"}),
        ("thread_sort_index", PHASE_TRACK, {"sort_index": PHASE_TRACK}),
        ("thread_name", STEP_TRACK, {"name": "tape"}),
        ("thread_sort_index", STEP_TRACK, {"sort_index": STEP_TRACK}),
    ):
        yield {"ph": "M", "pid": PROCESS, "tid": track, "ts": 0, "name": kind, "args": args}


def _run(
    number: int, rows: Sequence[Row], spans: Sequence[Span], origin: int, memory: MemoryProfile
) -> Iterator[Event]:
    """All events of one run."""
    parts = [list(group) for _, group in groupby(spans, attrgetter("item"))]
    pairs = list(zip(rows, parts, strict=False))  # rows of the engine have no spans
    yield from _phases(pairs, origin)
    for row, part in pairs:
        yield from _step(row, part, origin)
    yield from _flows(number, pairs, origin)
    yield from _memory(parts, origin, memory)


def _complete(track: int, name: str, kind: str, start: int, end: int, origin: int) -> Event:
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": track,
        "name": name,
        "cat": kind,
        "ts": (start - origin) / 1e3,
        "dur": (end - start) / 1e3,
    }


def _phases(pairs: Sequence[tuple[Row, list[Span]]], origin: int) -> Iterator[Event]:
    """One event for each stretch of a phase; copies stand between them."""
    for phase, group in groupby(pairs, lambda pair: pair[0].phase):
        spans = [s for _, part in group for s in part]
        yield _complete(PHASE_TRACK, phase, phase, spans[0].start, spans[-1].end, origin)


def _step(row: Row, spans: Sequence[Span], origin: int) -> Iterator[Event]:
    """An item, and inside it the rows of the tape if there are several."""
    label = row.op if row.phase not in (REORDER, PACK) else f"{row.op} {row.layer}".strip()
    event = _complete(STEP_TRACK, label, row.phase, spans[0].start, spans[-1].end, origin)
    seconds = max(sum(s.nanoseconds for s in spans) / 1e9, 1e-9)
    event["args"] = {
        "kernel": f"{row.kernel} {row.detail}".strip(),
        "inputs": list(row.inputs),
        "outputs": list(row.outputs),
        "line": row.source,
        "made by": row.made_by,
        "layer": row.layer,
        "MB": row.nbytes / 1e6,
        "GB/s": row.nbytes / seconds / 1e9,
        "GF/s": row.operations / seconds / 1e9,
        "floor us": row.floor * 1e6,
        "lost us": max(seconds - row.floor, 0.0) * 1e6,
        "not on": [f"{kernel}: {why}" for kernel, why in row.refused],
    }
    yield event
    if len(spans) > 1:
        for s in spans:
            yield _complete(STEP_TRACK, s.name, "tape", s.start, s.end, origin)


def _flows(number: int, pairs: Sequence[tuple[Row, list[Span]]], origin: int) -> Iterator[Event]:
    """Arrows through the longest steps of each layer: forward, backward, update."""
    layers: dict[str, dict[str, tuple[Row, list[Span]]]] = {}
    for row, part in pairs:
        if row.layer and row.phase in _MAIN:
            longest = layers.setdefault(row.layer, {})
            if row.phase not in longest or row.seconds > longest[row.phase][0].seconds:
                longest[row.phase] = (row, part)
    for layer, found in layers.items():
        stops = sorted((part[0].start, part[-1].end) for _, part in found.values())
        for i, (start, end) in enumerate(stops if len(stops) > 1 else []):
            last = i == len(stops) - 1
            event: Event = {"ph": "s" if i == 0 else "f" if last else "t", "bp": "e"}
            event |= {"pid": PROCESS, "tid": STEP_TRACK, "cat": "layer", "name": layer}
            event |= {"id": f"{number}:{layer}", "ts": ((start + end) // 2 - origin) / 1e3}
            yield event


def _memory(parts: Sequence[Sequence[Span]], origin: int, memory: MemoryProfile) -> Iterator[Event]:
    """A counter of MB, at the beginning of each item that ran."""
    places = {id(item): i for i, item in enumerate(memory.items)}
    for part in parts:
        at = places[id(part[0].item)]
        yield {
            "ph": "C",
            "pid": PROCESS,
            "tid": 0,
            "name": "memory (MB)",
            "ts": (part[0].start - origin) / 1e3,
            "args": {
                c: float(n) / 1e6 for c, n in zip(CATEGORIES, memory.totals[:, at], strict=True)
            },
        }
