"""Rows: times, costs, floors, operands."""

import pytest

from noria.ir.opdef import vocabulary as o
from noria.runtime.profiling.peaks import Peaks
from noria.runtime.profiling.rows import Row, dtype_of, engine_rows, step_rows
from tests.runtime.binding import bind
from tests.runtime.profiling.machine import MACHINE
from tests.runtime.programs import N, build, floats, value


def row(**how):
    return Row(0, "matmul", "onednn:matmul", [2e-3, 1e-3, 9e-3], **how)


def test_the_time_is_the_median_and_rates_are_of_it():
    found = row(nbytes=4e6, operations=1e9, floor=5e-4)
    assert found.seconds == 2e-3 and found.lost == pytest.approx(1.5e-3)
    assert found.bandwidth == pytest.approx(2e9) and found.rate == pytest.approx(5e11)


def test_faster_than_the_floor_loses_nothing():
    assert row(floor=1.0).lost == 0
    assert Row(0, "fill", "reference", [0.0]).rate == 0 == Row(0, "f", "r", [0.0]).bandwidth


def linear(b):
    return {"y": o.linear(b.input("x", (N, 5)), value(b, "w"))}


def test_a_row_tells_what_its_item_is():
    bound = bind(build(linear, w=floats(7, 5)), {"N": 3})
    (found,) = step_rows(bound, bound.items, [[1e-6]], MACHINE)
    assert (found.op, found.kernel, found.phase, found.layer) == (
        *("linear", "reference", "forward", "w"),
    )
    assert list(found.inputs) == ["x: float32[3, 5]", "w: float32[7, 5]"]
    assert list(found.outputs) == ["linear: float32[3, 7]"]
    assert found.operations == 2 * 3 * 5 * 7 and found.nbytes == 4 * (15 + 35 + 21)
    assert found.floor == pytest.approx(max(284 / 1e11, 210 / 1e12))
    assert "profiling/test_rows.py:" in found.source


@pytest.mark.usefixtures("fast_kernels")
def test_kernels_that_did_not_take_it_are_told_with_their_reasons():
    bound = bind(build(linear, w=floats(7, 5)), {"N": 3}, frozenset({"onednn"}))
    rows = step_rows(bound, bound.items, [[1e-6]] * len(bound.items), MACHINE)
    assert ("numba:linear", "switched off") in rows[-1].refused and rows[-1].detail


def test_feeds_and_fetches_are_rows_of_the_engine():
    bound = bind(build(linear, w=floats(7, 5)), {"N": 3})
    samples = {"feeds": [1e-6], "fetch": [2e-6], "commit": [0.0]}
    feeds, fetch = engine_rows(bound, ["y"], samples, 5)
    assert (feeds.op, feeds.nbytes, feeds.index) == ("feeds", 2 * 4 * 15, 5)
    assert (fetch.op, fetch.nbytes, fetch.seconds) == ("fetch", 2 * 4 * 21, 2e-6)


def test_arithmetic_has_the_dtype_of_the_first_operand():
    bound = bind(build(lambda b: {"y": o.exp(b.input("x", (3,), "bfloat16"))}), {})
    assert dtype_of(bound.items[0]) == "bfloat16"
    fast = Peaks("m", 1, {"float32": 1.0, "bfloat16": 2.0}, {1: 1e9})
    (found,) = step_rows(bound, bound.items, [[1.0]], fast)
    assert found.floor == 3 * 20 / 2.0
