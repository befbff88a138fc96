"""Axes, broadcasting and demands that inference functions share."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, MissingError, ShapeError
from noria.core.shapes import Check
from noria.ir.opdef import collect_checks
from noria.ir.program import Spec, Value
from noria.ops.common import (
    axes_of,
    axis_of,
    broadcast,
    need_float,
    need_integer,
    need_rank,
    pair,
    require_equal,
    require_same_shape,
    shaped,
)

N, M = symbol("N"), symbol("M")


# ---- shapes ------------------------------------------------------------------------------------


def test_what_has_a_shape_is_left_alone_and_the_rest_becomes_an_array():
    for x in (Value("x", (N,)), Spec((2,)), np.zeros(3), np.float32(1)):
        assert shaped(x) is x
    assert shaped([1, 2]).tolist() == [1, 2] and shaped(2.5).shape == ()


@pytest.mark.parametrize(
    ("shapes", "want"),
    [
        ([()], ()),
        ([(2, 1), (3,)], (2, 3)),
        ([(0, 1), (1, 5)], (0, 5)),
        ([(N, 1), (1, 3), ()], (N, 3)),
        ([(N, 4), (N, 4)], (N, 4)),
    ],
)
def test_shapes_broadcast_as_in_numpy(shapes, want):
    with collect_checks([]) as checks:
        assert broadcast(*map(Spec, shapes)) == want
    assert checks == []


def test_what_broadcasting_cannot_decide_is_noted():
    with collect_checks([]) as checks:
        assert broadcast(Spec((N, 3)), Spec((M, 3))) == (N, 3)
    (check,) = checks
    check.verify({"N": 4, "M": 4})
    with pytest.raises(ShapeError, match="N=4"):
        check.verify({"N": 4, "M": 5})


def test_shapes_that_never_broadcast_are_told():
    with pytest.raises(ShapeError, match=r"axis 1 is 3 and 4[\s\S]*got      \[2, 3\] with \[4\]"):
        broadcast(Spec((2, 3)), Spec((4,)))


def test_equal_sizes_pass_and_others_are_told():
    with collect_checks([]) as checks:
        require_equal(3, 3, "the channels")
        require_equal(N + N, 2 * N, "the channels")
        with pytest.raises(ShapeError) as caught:
            require_equal(3, 4, "the channels")
        with pytest.raises(ShapeError, match=r"expected N\n  got      N\+1"):
            require_equal(N, N + 1, "the channels")
    assert str(caught.value) == "the channels must be equal\n  expected 3\n  got      4"
    assert checks == []


def test_sizes_that_may_be_equal_are_noted():
    with collect_checks([]) as checks:
        require_equal(N, 4, "the channels")
    assert checks == [Check(N, 4, "the channels")]
    with pytest.raises(MissingError, match="N"):
        checks[0].verify({})


def test_outside_of_inference_nothing_is_noted():
    require_equal(N, 4, "the channels")
    with collect_checks([]) as checks:
        pass
    assert checks == []


def test_whole_shapes_are_compared_by_axis():
    with collect_checks([]) as checks:
        require_same_shape(Spec((N, 3)), Spec((M, 3)), "the weight")
        require_same_shape(Spec(()), Spec(()), "the weight")
        with pytest.raises(ShapeError, match="axis 1 of the weight and what it belongs to"):
            require_same_shape(Spec((2, 3)), Spec((2, 4)), "the weight")
        with pytest.raises(
            ShapeError, match=r"the weight must have rank 2\n  got      float32\[2\]"
        ):
            require_same_shape(Spec((2, 3)), Spec((2,)), "the weight")
    assert [(c.left, c.right) for c in checks] == [(N, M)]


# ---- axes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "want"), [(0, 0), (2, 2), (-1, 2), (-3, 0), (np.int64(-2), 1)])
def test_an_axis_counts_from_either_end(axis, want):
    assert axis_of(axis, 3) == want


@pytest.mark.parametrize(("axis", "ndim"), [(3, 3), (-4, 3), (0, 0), (-1, 0)])
def test_an_axis_out_of_range_is_told(axis, ndim):
    text = rf"the axis is out of range\n  expected {-ndim} <= the axis < {ndim}\n  got      {axis}"
    with pytest.raises(ArgumentError, match=text):
        axis_of(axis, ndim, "the axis")


@pytest.mark.parametrize("axis", [True, 1.0, "1", None, (1,)])
def test_an_axis_is_an_integer(axis):
    with pytest.raises(ArgumentError, match="axis must be an integer"):
        axis_of(axis, 3)


@pytest.mark.parametrize(
    ("axis", "want"),
    [(None, (0, 1, 2)), (-1, (2,)), ([2, 0], (0, 2)), ((-1, -3), (0, 2)), ((), ())],
)
def test_axes_are_sorted(axis, want):
    assert axes_of(axis, 3) == want


def test_a_scalar_has_no_axes():
    assert axes_of(None, 0) == ()
    with pytest.raises(ArgumentError, match="out of range"):
        axes_of(0, 0)


@pytest.mark.parametrize("axis", [(0, 0), [1, -2]])
def test_an_axis_named_twice_is_told(axis):
    with pytest.raises(ArgumentError, match="named twice") as caught:
        axes_of(axis, 3)
    assert caught.value.got == repr(axis)


# ---- demands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_floats_are_floats(dtype):
    need_float(Spec((2,), dtype), None)
    with pytest.raises(DTypeError, match=rf"an integer dtype[\s\S]*got      {dtype}\[2\]"):
        need_integer(None, Spec((2,), dtype))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integers_are_integers(dtype):
    need_integer(None, Spec((N,), dtype))
    with pytest.raises(DTypeError, match=rf"got      {dtype}\[N\]\n  try      ops.cast"):
        need_float(Spec((), "float32"), Spec((N,), dtype))


@pytest.mark.parametrize("need", [need_float, need_integer])
def test_booleans_are_neither(need):
    with pytest.raises(DTypeError, match=r"expected .*\n  got      bool\[\]"):
        need(Spec((), "bool"))


def test_ranks_are_demanded():
    need_rank(Spec((2, N)), 1, 2)
    need_rank(Spec(()), 0)
    with pytest.raises(ShapeError, match=r"x must have rank 3 or 4\n  got      float32\[2, N\]"):
        need_rank(Spec((2, N)), 3, 4)


# ---- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "n", "want"),
    [(3, 2, (3, 3)), (0, 3, (0, 0, 0)), ((1, 2), 2, (1, 2)), ([4], 1, (4,)), (-1, 1, (-1,))],
)
def test_one_integer_stands_for_all(value, n, want):
    assert pair(value, n) == want


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), (), (1, 2.0), 2.5, None, "ab", (1, None)])
def test_what_is_no_pair_is_told(value):
    with pytest.raises(ArgumentError, match=r"size must be an integer or 2 integers") as caught:
        pair(value, what="size")
    assert caught.value.got == repr(value)
