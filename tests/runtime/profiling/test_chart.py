"""Memory as a picture and as a line of letters."""

from xml.etree import ElementTree

import numpy as np

from noria.runtime.profiling.chart import COLORS, byte_text, sparkline, svg
from noria.runtime.profiling.memory import CATEGORIES, KEPT, STATE, Live, MemoryProfile
from noria.runtime.profiling.phases import BACKWARD, FORWARD

SVG = "{http://www.w3.org/2000/svg}"


def course(*totals, phases=None):
    """Kept for backward: these bytes at each item, on 10 bytes of state."""
    live = [Live("state", 10, STATE, 0, len(totals) - 1)]
    live += [Live(f"v{i}", n, KEPT, i, i, "relu", f"m.py:{i}") for i, n in enumerate(totals)]
    rows = np.zeros((len(CATEGORIES), len(totals)), np.int64)
    rows[0], rows[1] = 10, totals
    return MemoryProfile(live, rows, [None] * len(totals), phases or [FORWARD] * len(totals), 60)


def draw(memory, starts, seconds, **how):
    return ElementTree.fromstring(svg(memory, starts, seconds, "a & b", **how))


def words(root):
    return [e.text for e in root.iter(f"{SVG}text")]


def test_each_category_is_an_area_and_the_peak_is_marked():
    root = draw(course(20, 50, 5), [0.0, 1e-3, 2e-3], 3e-3)
    fills = [e.get("fill") for e in root.iter(f"{SVG}polygon")]
    assert fills[:2] == [COLORS[STATE], COLORS[KEPT]]  # from the bottom to the top
    told = words(root)
    assert "a & b" in told and "peak 60 B" in told and "50 B" in told
    assert "relu  m.py:1" in told and "relu  m.py:0" not in told  # only what is alive there


def test_the_area_is_as_high_as_the_bytes():
    root = draw(course(20, 50, 5), [0.0, 1e-3, 2e-3], 3e-3)
    state, kept, *_ = root.iter(f"{SVG}polygon")
    corners = [tuple(map(float, p.split(","))) for p in kept.get("points").split()]
    bottoms = [tuple(map(float, p.split(","))) for p in state.get("points").split()]
    base = max(y for _, y in bottoms)
    ten = base - min(y for _, y in bottoms)
    assert round((base - min(y for _, y in corners)) / ten, 1) == 6.0  # 60 bytes beside 10


def test_phases_are_written_above():
    root = draw(course(20, 50, phases=[FORWARD, BACKWARD]), [0.0, 1e-3], 2e-3)
    assert {"forward", "backward"} <= set(words(root))


def test_what_does_not_fit_the_list_is_summed_up():
    memory = course(20)
    crowd = [Live(f"v{i}", 7, KEPT, 0, 0, "relu") for i in range(5)]
    root = draw(MemoryProfile([*memory.live, *crowd], memory.totals, [None], [FORWARD], 60),
                [0.0], 1e-3, entries=2)  # fmt: skip
    assert "and 4 more: 28 B" in words(root)


def test_an_empty_plan_can_be_drawn():
    empty = MemoryProfile([], np.zeros((len(CATEGORIES), 0), np.int64), [], [], 0)
    assert words(draw(empty, [], 0.0)) and sparkline(empty) == ""


def test_the_line_rises_and_falls_with_the_bytes():
    assert sparkline(course(70, 30, 0)) == "█▄▁"
    assert len(sparkline(course(*range(500)), width=40)) == 40
    assert sparkline(course(*range(1000)))[-1] == "█"


def test_bytes_are_told_in_their_unit():
    assert [byte_text(n) for n in (0, 999, 1500, 2.5e6, 1.576e9)] == [
        *("0 B", "999 B", "1.5 kB", "2.5 MB", "1.576 GB")
    ]
