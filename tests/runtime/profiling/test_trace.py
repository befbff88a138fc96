"""The timeline: fields of the Trace Event Format, order, nesting, flows, counters."""

import json
from collections import defaultdict

import pytest

from noria.runtime.profiling.memory import CATEGORIES
from noria.runtime.profiling.profile import profile
from tests.runtime.profiling.machine import FEEDS, training

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture
def trace(tmp_path):
    found = profile(training(), FEEDS, steps=3)
    found.to_chrome_trace(tmp_path / "t.json")
    return found, json.loads((tmp_path / "t.json").read_text())


REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "M": {"name", "pid", "args"},
    "C": {"name", "ts", "pid", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "t": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
}


def test_every_event_has_the_fields_of_its_kind(trace):
    _, found = trace
    assert set(found) == {"traceEvents", "displayTimeUnit", "otherData"}
    kinds = {e["ph"] for e in found["traceEvents"]}
    assert set(REQUIRED) - {"t"} <= kinds <= set(REQUIRED)  # no arrow passes through a sweep
    for event in found["traceEvents"]:
        assert REQUIRED[event["ph"]] <= event.keys(), event
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0
        assert all(isinstance(event[k], int) for k in ("pid", "tid") if k in event)


def test_events_of_a_track_are_in_order_and_nested_or_apart(trace):
    _, found = trace
    tracks = defaultdict(list)
    for event in found["traceEvents"]:
        if event["ph"] == "X":
            tracks[event["tid"]].append(event)
    assert len(tracks) == 2
    for events in tracks.values():
        starts = [e["ts"] for e in events]
        assert starts == sorted(starts)
        open_until = []
        for e in events:
            while open_until and open_until[-1] <= e["ts"] + 1e-6:
                open_until.pop()
            end = e["ts"] + e["dur"]
            assert not open_until or end <= open_until[-1] + 1e-6, e
            open_until.append(end)


def test_the_last_runs_are_shown_with_every_step(trace):
    profiled, found = trace
    named = [e for e in found["traceEvents"] if e["ph"] == "X" and "args" in e]
    steps = [r for r in profiled.rows if r.phase != "engine"]
    names = [e["name"].split()[0] for e in named[: len(steps)]]  # packs have numbers
    assert names == [r.op for r in steps]
    assert len(named) == 2 * len(steps)
    args = next(e for e in named if e["cat"] == "forward")["args"]
    assert args["outputs"] and args["kernel"] and "machine.py" in args["line"]
    assert args["GF/s"] > 0 and args["MB"] > 0


def test_phases_cover_their_steps(trace):
    _, found = trace
    phases = [e for e in found["traceEvents"] if e["ph"] == "X" and e["tid"] == 1]
    names = [e["name"] for e in phases]
    assert next(n for n in names if n != "pack") == "forward" and {"backward", "update"} <= set(
        names
    )
    for e in found["traceEvents"]:
        if e["ph"] == "X" and "args" in e:
            inside = [
                p
                for p in phases
                if p["ts"] <= e["ts"] + 1e-6 and e["ts"] + e["dur"] <= p["ts"] + p["dur"] + 1e-6
            ]
            assert e["cat"] in {p["name"] for p in inside}


def test_flows_lead_from_forward_through_backward_to_the_update(trace):
    _, found = trace
    flows = defaultdict(list)
    for e in found["traceEvents"]:
        if e["ph"] in "stf":
            flows[e["id"]].append(e)
    assert flows
    for events in flows.values():
        kinds = [e["ph"] for e in events]
        assert kinds[0] == "s" and kinds[-1] == "f" and set(kinds[1:-1]) <= {"t"}
        assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    assert len({e["name"] for events in flows.values() for e in events}) == 2  # two layers


def test_the_memory_track_is_the_planned_memory(trace):
    profiled, found = trace
    counters = [e for e in found["traceEvents"] if e["ph"] == "C"]
    assert all(set(e["args"]) == set(CATEGORIES) for e in counters)
    largest = max(sum(e["args"].values()) for e in counters)
    assert largest == pytest.approx(profiled.memory.peak_bytes / 1e6)
