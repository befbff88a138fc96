"""Broadcasting with symbols, and solving shapes for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.dims import dim_max, symbol
from noria.core.errors import ArgumentError, MissingError, ShapeError
from noria.core.shapes import Check, broadcast, solve, solve_all

N, M, T = symbol("N"), symbol("M"), symbol("T")
quick = settings(max_examples=200, deadline=None, database=None)
small_shapes = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3).map(tuple)


@quick
@given(st.lists(small_shapes, min_size=1, max_size=3))
def test_plain_shapes_broadcast_as_in_numpy(shapes):
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            broadcast(*shapes)
    else:
        assert broadcast(*shapes) == (expected, [])


@pytest.mark.parametrize(
    ("shapes", "result"),
    [
        ([], ()),
        ([(N, 3)], (N, 3)),
        ([(N, 3), (N, 3)], (N, 3)),
        ([(N, 3), (3,)], (N, 3)),
        ([(N, 1), (1, T)], (N, T)),
        ([(N, 1, 3), (T, 1), ()], (N, T, 3)),
        ([(1 + N,), (N + 1,)], (N + 1,)),
    ],
)
def test_symbols_that_are_equal_or_meet_one_leave_no_checks(shapes, result):
    assert broadcast(*shapes) == (result, [])


def test_an_int_against_a_symbol_wins_and_leaves_a_check():
    for shapes in ([(N, 3), (4, 3)], [(4, 3), (N, 3)]):
        shape, (check,) = broadcast(*shapes)
        assert shape == (4, 3)
        check.verify({"N": 4})
        with pytest.raises(ShapeError, match=r"axis 0 of broadcasting \["):
            check.verify({"N": 1})


def test_two_symbols_give_the_first_and_a_check():
    shape, checks = broadcast((2, N), (M,))
    assert shape == (2, N)
    assert [(c.left, c.right) for c in checks] == [(N, M)]


def test_sizes_that_can_never_agree_are_refused_with_both_shapes():
    with pytest.raises(ShapeError, match=r"\[N, 3\] with \[N\+1, 3\]"):
        broadcast((N, 3), (N + 1, 3))
    with pytest.raises(ShapeError, match="axis 1 is 2 and 3"):
        broadcast((N, 2), (M, 3))


def test_a_check_tells_where_expected_got_and_the_values():
    check = Check(N + 1, M, "add at model.py:3")
    check.verify({"N": 2, "M": 3})
    with pytest.raises(ShapeError) as caught:
        check.verify({"N": 2, "M": 5})
    assert str(caught.value).splitlines()[1:4] == [
        "  at       add at model.py:3",
        "  expected N+1 equal to M",
        "  got      3 and 5 with M=5, N=2",
    ]
    with pytest.raises(MissingError, match="no value for M"):
        check.verify({"N": 2})


@pytest.mark.parametrize(
    ("pattern", "actual", "found"),
    [
        ((N, 3), (5, 3), {"N": 5}),
        ((2 * N + 1,), (7,), {"N": 3}),
        ((10 - N,), (7,), {"N": 3}),
        ((N, N), (4, 4), {"N": 4}),
        ((N, N * T), (4, 12), {"N": 4, "T": 3}),
        ((N * T, T), (12, 3), {"N": 4, "T": 3}),
        ((T // 2, T), (3, 7), {"T": 7}),
        ((dim_max(N, M), N, M), (5, 2, 5), {"N": 2, "M": 5}),
        ((), (), {}),
        ((N,), (0,), {"N": 0}),
    ],
)
def test_solving_binds_every_symbol_an_axis_determines(pattern, actual, found):
    assert solve(pattern, actual) == found


def test_solving_keeps_what_was_bound_and_leaves_its_argument_alone():
    before = {"N": 2}
    assert solve((N, T), (2, 5), before) == {"N": 2, "T": 5}
    assert before == {"N": 2}


@pytest.mark.parametrize(
    ("pattern", "actual", "message"),
    [
        ((N, 3), (5, 4), r"image: axis 1 of \[N, 3\](.|\n)*expected 3(.|\n)*got      4"),
        ((N, N), (5, 4), r"axis 1(.|\n)*expected 5 \(N with N=5\)(.|\n)*got      4"),
        ((N, 3), (5,), r"another rank(.|\n)*2 axes: \[N, 3\](.|\n)*1 axes: \[5\]"),
        ((2 * N + 1,), (6,), r"no size N makes 2\*N\+1 equal to 6"),
        ((N + 4,), (3,), r"no size N makes N\+4 equal to 3"),
        ((T // 2,), (3,), "does not tell what T is"),
        ((N * M,), (6,), "does not tell what M, N is"),
        ((T, T // 2), (7, 4), r"axis 1(.|\n)*expected 3 \(T//2 with T=7\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(pattern, actual, message):
    with pytest.raises(ShapeError, match=message):
        solve(pattern, actual, where="image")


@pytest.mark.parametrize("size", [-1, 2.0, N])
def test_a_real_size_is_a_whole_number_from_zero(size):
    with pytest.raises(ArgumentError):
        solve((N,), (size,))


def test_numpy_sizes_are_bound_as_plain_ints():
    assert type(solve((N,), (np.int64(4),))["N"]) is int


def test_an_axis_that_determines_nothing_is_left_as_a_check():
    checks = []
    assert solve((N, T // 2), (4, 3), where="mask", checks=checks) == {"N": 4}
    (check,) = checks
    assert check == Check(T // 2, 3, "mask: axis 1 of [N, T//2]")
    check.verify({"T": 7})
    with pytest.raises(ShapeError, match="mask: axis 1"):
        check.verify({"T": 8})


def test_several_arrays_bind_each_other_in_any_order():
    shapes = {"mask": ((T // 2, N + T), (3, 11)), "text": ((T,), (7,))}
    assert solve_all(shapes) == {"N": 4, "T": 7}
    assert solve_all(dict(reversed(shapes.items()))) == {"N": 4, "T": 7}


def test_several_arrays_that_disagree_are_named():
    with pytest.raises(ShapeError, match=r"label: axis 0 of \[N\]"):
        solve_all({"image": ((N, 3), (5, 3)), "label": ((N,), (4,))})
