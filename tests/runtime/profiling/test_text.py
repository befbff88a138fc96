"""The tables of a profile, from rows of known numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.runtime.profiling.memory import MemoryProfile
from noria.runtime.profiling.profile import profile
from noria.runtime.profiling.rows import Row
from noria.runtime.profiling.text import ms, report, summary, tables
from tests.runtime.profiling.machine import FEEDS, MACHINE, training

ROWS = [
    Row(0, "conv2d", "onednn:conv", [4e-3], 1e6, 2e9, 2e-3, "jit:avx512", layer="a",
        source="m.py:1", phase="forward", outputs=["y: float32[2]"],
        refused=[("x:conv", "too small")]),
    Row(1, "relu", "numba:elementwise", [1e-3], 1e6, 1e3, 9e-4, layer="a", phase="forward",
        source="m.py:2", outputs=["a: float32[2]", "b: float32[1]"]),
    Row(2, "conv2d", "onednn:conv", [3e-3], 1e6, 2e9, 2e-3, layer="b", phase="forward",
        refused=[("x:conv", "too small")]),
    Row(3, "reorder", "copy", [5e-4], 2e6, phase="reorder", inputs=["x: float32[2]"],
        outputs=["x.channels_last: float32[2]"]),
    Row(4, "feeds", "engine", [5e-4], 1e3),
]  # fmt: skip
PROFILE = SimpleNamespace(
    name="small", sizes={"N": 2}, threads=2, rows=ROWS, wholes=[1e-2, 1e-2], peaks=MACHINE,
    seconds=1e-2, accounted=9e-3, floor=4.9e-3,
    memory=MemoryProfile([], np.zeros((5, 0), np.int64), [], [], 0),
)  # fmt: skip


def column(table, title):
    at = list(table.titles).index(title)
    return [row[at] for row in table.rows]


def test_the_summary_holds_the_sum_against_the_whole_and_the_floor():
    one, step, floor, memory, best = summary(PROFILE)
    assert memory.split() == ["memory", "0", "B"]
    assert one == "small: N=2; 2 threads; medians of 2 runs"
    assert "10.000 ms" in step and "9.000 ms (90.0%)" in step and "forward 8.000" in step
    assert "4.900 ms (49.0% of the step); lost 5.100 ms" in floor
    assert "float32 1,000 GF/s" in best and "memory 10.0 GB/s" in best


def test_the_largest_loss_is_on_top():
    first = tables(PROFILE)[0]
    assert first.heading == "steps by lost"
    assert column(first, ">lost ms") == ["2.000", "1.000", "0.500", "0.500", "0.100"]
    assert column(first, "kernel")[0] == "onednn:conv jit:avx512"
    assert column(first, "result")[0] == "y: float32[2]" and column(first, "line")[0] == "m.py:1"


@pytest.mark.parametrize(
    ("sort", "ops"),
    [
        ("time", ["conv2d", "conv2d", "relu"]),
        ("order", ["conv2d", "relu", "conv2d"]),
        ("bytes", ["reorder", "conv2d", "relu"]),
        ("operations", ["conv2d", "conv2d", "relu"]),
    ],
)
def test_rows_can_be_sorted_otherwise_and_cut(sort, ops):
    first = tables(PROFILE, sort=sort, top=3)[0]
    assert column(first, "op") == ops and first.note.startswith("and 2 more: ")
    assert len(tables(PROFILE, top=0)[0].rows) == 5


def test_totals_add_rows_up():
    by_op = next(t for t in tables(PROFILE) if t.heading == "by op")
    assert column(by_op, "op")[0] == "conv2d" and column(by_op, ">steps")[0] == "2"
    assert column(by_op, ">time ms")[0] == "7.000" and column(by_op, ">lost ms")[0] == "3.000"
    assert column(by_op, ">share")[0] == "77.8%"
    assert column(by_op, ">GF/s")[0] == "571.4"  # 4e9 in 7 ms
    by_kernel = next(t for t in tables(PROFILE) if t.heading == "by kernel")
    assert column(by_kernel, "kernel")[0] == "onednn:conv"


@pytest.mark.parametrize(
    ("group", "first"),
    [("layer", "a"), ("phase", "forward"), ("source", "m.py:1"), ("op", "conv2d")],
)
def test_steps_can_be_grouped(group, first):
    found = tables(PROFILE, group=group)
    assert found[0].heading == f"by {group}" and found[0].rows[0][-1] == first
    assert len({t.heading for t in found}) == len(found)


def test_copies_between_layouts_are_counted_with_their_bytes():
    copies = next(t for t in tables(PROFILE) if t.heading.startswith("copies"))
    assert "1 reorder, 2.00 MB (5.6% of the time)" in copies.heading
    assert copies.rows == [
        ["0.500", "2.00", "reorder", "x: float32[2]", "x.channels_last: float32[2]"]
    ]


def test_refused_kernels_are_told_once_with_the_time_spent_elsewhere():
    refused = tables(PROFILE)[-1]
    assert refused.rows == [["7.000", "2", "conv2d", "onednn:conv", "x:conv: too small"]]


def test_tables_with_nothing_to_tell_are_left_out():
    quiet = SimpleNamespace(**{**vars(PROFILE), "rows": ROWS[1:2]})
    assert [t.heading for t in tables(quiet)] == ["steps by lost", "by op", "by kernel"]


def test_unknown_words_are_refused_with_those_there_are():
    with pytest.raises(ArgumentError, match="time"):
        tables(PROFILE, sort="tim")
    with pytest.raises(ArgumentError, match="layer"):
        tables(PROFILE, group="layers")


def test_the_report_is_all_of_it_as_text():
    text = report(PROFILE, top=2)
    assert text.startswith("small: N=2") and "\nsteps by lost\nlost ms  time ms" in text


def test_milliseconds_keep_the_digits_that_count():
    assert [ms(1.23456), ms(0.0123456), ms(2e-6)] == ["1,234.6", "12.346", "0.002"]


def test_the_summary_tells_where_most_memory_is_needed(machine):
    found = profile(training(), FEEDS, steps=1)
    text = summary(found)[3]
    assert " at " in text and "parameters and state" in text and "█" in text


def test_denormals_are_a_warning():
    rows = [replace(ROWS[0], denormals=0.25), replace(ROWS[1], denormals=0.001)]
    found = tables(SimpleNamespace(**{**vars(PROFILE), "rows": rows}))[-1]
    assert found.heading.startswith("warning") and len(found.rows) == 1
    assert found.rows[0][:3] == ["25%", "4.000", "conv2d"]
