"""Pieces of source: shares of threads, places from flat numbers, addresses in each loop."""

import pytest

from noria.kernels.numba.body import Body, Output, copy_body
from noria.kernels.numba.codegen import (
    Operands,
    Source,
    form_of,
    product,
    share,
    table_end,
    table_layout,
    unravel,
)
from noria.kernels.numba.reduction import Reduction
from noria.kernels.numba.space import Space


def run(lines, **names):
    """The variables after some lines of source."""
    exec("\n".join(lines), {}, names)
    return names


@pytest.mark.parametrize("team", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 64, 65, 1000])
@pytest.mark.parametrize("grain", [1, 64])
def test_shares_follow_each_other_without_gap(count, team, grain):
    end = 0
    for me in range(team):
        got = run(share("low", "high", "n", grain), n=count, me=me, team=team)
        assert got["low"] == end <= got["high"]
        assert got["low"] % grain == 0
        end = got["high"]
    assert end == count


def test_unravel_counts_the_last_axis_fastest():
    sizes = {"n0": 2, "n2": 3, "n3": 4}
    places = []
    for flat in range(24):
        got = run(unravel("flat", [0, 2, 3]), flat=flat, **sizes)
        places.append((got["x0"], got["x2"], got["x3"]))
    assert places == [(a, b, c) for a in range(2) for b in range(3) for c in range(4)]


def test_no_axes_are_one_point():
    assert product([]) == "1"
    assert unravel("row", []) == []


def test_a_function_reads_what_it_uses():
    out = Source()
    with out.block("for i in range(n1):"):
        out.put("x = p0 + s0_1 + me * team")
    assert out.function("f", ["p0", "p1", "n0", "n1", "s0_0", "s0_1"]).splitlines() == [
        "def f(args):",
        "    p0 = load_int64(args, 0)",
        "    n1 = load_int64(args, 3)",
        "    s0_1 = load_int64(args, 5)",
        "    me = thread_id()",
        "    team = team_size()",
        "    for i in range(n1):",
        "        x = p0 + s0_1 + me * team",
        "    return 0",
    ]


# A bias, a row's factor, a strided and a contiguous operand of rows of 4.
STRIDES = ((0, 0, 1, 8, 4), (0, 1, 0, 2, 1))


def test_codes_tell_the_innermost_loop_an_operand_moves_with():
    body = Body("", ("float32",) * 4, (), (Output(3, "float32"),), 1)
    form = form_of(body, Space((3, 4), STRIDES, (False, False)))
    assert form.codes == "kcqsc"
    assert (form.kept_axes, form.reduced_axes, form.inner) == ([0], [], 1)


def test_addresses_are_those_of_the_loop_an_operand_moves_with():
    body = Body("", ("float32",) * 4, (), (Output(3, "float32"),), 1)
    operands = Operands(form_of(body, Space((3, 4), STRIDES, (False, False))))
    assert operands.pointers("q") == [
        "q1 = p1 + (x0 * s0_1) * 4",
        "q2 = p2 + (x0 * s0_2) * 4",
        "q3 = p3 + (x0 * s0_3) * 4",
        "q4 = p4 + (x0 * s0_4) * 4",
    ]
    assert [operands.at(o) for o in range(5)] == [
        ("p0", "0"),
        ("q1", "i"),
        ("q2", "0"),
        ("q3", "i * s1_3"),
        ("q4", "i"),
    ]
    levels, _ = operands.statements()
    assert [len(level) for level in levels] == [1, 1, 0, 3]
    assert levels[3][-1] == "store_float32(q4, i, t4)"


def test_results_do_not_move_with_reduced_axes():
    result = Output(0, "float32", Reduction("sum", "float32", "float32"))
    body = Body("", ("float32",), (), (result,), 1)
    space = Space((2, 3, 4), ((12, 4), (4, 0), (1, 1)), (False, True, False))
    operands = Operands(form_of(body, space))
    assert operands.pointers("r", "u0") == ["r0u0 = q0 + (x1 * s1_0) * 4"]
    assert operands.at(0, "u0") == ("r0u0", "i")
    assert operands.at(1, "u0") == ("q1", "i")


def test_the_table_has_addresses_then_extras_sizes_and_steps():
    space = Space((3, 4), ((0, 4), (1, 1)), (False, False))
    form = form_of(copy_body("uint32"), space)
    assert table_layout(form, ("scratch",)) == [
        *("p0", "p1", "scratch", "n0", "n1"),
        *("s0_0", "s0_1", "s1_0", "s1_1"),
    ]
    assert table_end(space) == [3, 4, 0, 4, 1, 1]
