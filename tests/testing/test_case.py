import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.testing.case import Case, arr, ints


def test_the_same_recipe_makes_the_same_numbers_and_another_seed_others():
    case = Case("f", [arr(3, 4), arr(3, 4)])
    a, b = case.arrays()
    np.testing.assert_array_equal(a, case.arrays()[0])
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, case.arrays(salt=1)[0])
    assert not np.array_equal(a, Case("f", [arr(3, 4)], seed=1).arrays()[0])


def test_floats_fill_their_range():
    x = arr(1000, low=2.0, high=3.0, dtype="float64").make((0,))
    assert x.dtype == np.float64 and x.shape == (1000,)
    assert 2.0 <= x.min() < 2.01 and 2.99 < x.max() < 3.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_narrow_floats_are_made(dtype):
    assert arr(5, dtype=dtype).make((0,)).dtype.name == dtype


def test_distinct_floats_are_never_nearly_equal():
    x = np.sort(arr(20, 10, low=0.0, high=1.0, distinct=True).make((3,)).ravel())
    assert np.diff(x).min() > 0.4 / 200
    assert x[0] >= 0.0 and x[-1] <= 1.0


def test_integers_stay_below_their_bound_and_booleans_are_both():
    x = ints(500, low=-1, high=3, dtype="int32").make((0,))
    assert x.dtype == np.int32 and set(x.tolist()) == {-1, 0, 1, 2}
    flags = ints(50, dtype="bool").make((0,))
    assert flags.dtype == np.bool_ and 0 < flags.sum() < 50


def test_a_scalar_and_an_empty_array_can_be_made():
    assert arr().make((0,)).shape == ()
    assert arr(0, 3, distinct=True).make((0,)).shape == (0, 3)


def test_recipes_that_make_no_sense_are_refused():
    with pytest.raises(ArgumentError, match="ints"):
        arr(3, dtype="int64")
    with pytest.raises(ArgumentError):
        ints(3, dtype="float32")
    with pytest.raises(ArgumentError):
        ints(3, low=4, high=4)
    with pytest.raises(DTypeError):
        arr(3, dtype="float31")
    with pytest.raises(ShapeError):
        arr(-1)


def test_literals_scalars_and_absent_inputs_are_passed_as_they_are():
    data = np.arange(3)
    x, y, z = Case("f", [data, None, 2.5]).arrays()
    assert x is data and y is None and z == 2.5


def test_open_sizes_are_declared_and_bound():
    case = Case("f", [arr(3, 4), None, arr(7)], symbolic={0: {0: "N"}, 2: {0: "2*N+1"}})
    assert case.shape(0) == (symbol("N"), 4)
    assert case.shape(1) is None
    assert case.shape(2) == (symbol("N") * 2 + 1,)
    assert case.sizes() == {"N": 3}
    assert [np.shape(a) for a in case.arrays({"N": 5})] == [(5, 4), (), (11,)]


def test_sizes_that_contradict_each_other_are_found():
    case = Case("f", [arr(3), arr(8)], symbolic={0: {0: "N"}, 1: {0: "2*N+1"}})
    with pytest.raises(ShapeError):
        case.sizes()


def test_only_recipes_can_be_resized():
    open_axis = {0: {0: "N"}}
    assert Case("f", [arr(3), np.ones(3)], symbolic=open_axis).resizable
    assert not Case("f", [np.ones(3)], symbolic=open_axis).resizable
    assert not Case("f", [arr(3)]).resizable


def test_attributes_follow_the_sizes():
    case = Case("f", [arr(3)], {"shape": (symbol("N") + 1, 2), "axis": 0})
    assert case.attrs_at({"N": 3}) == {"shape": (4, 2), "axis": 0}


def test_floats_of_a_case_can_be_widened():
    inputs = [arr(3), ints(3), np.ones(2, np.float32), 1.5, None]
    wide = Case("f", inputs, {"dtype": "float32", "mode": "linear"}).with_floats("float64")
    kinds = [getattr(a, "dtype", None) for a in wide.arrays()]
    assert kinds == [np.float64, np.int64, np.float64, None, None]
    assert wide.attrs == {"dtype": "float64", "mode": "linear"}


def test_a_case_is_named_after_its_op_inputs_and_attributes():
    assert str(Case("f", [arr(3, 4), ints(2), None], {"axis": 1})) == (
        "f-float32[3,4]-int64[2]-None-axis=1"
    )
    assert str(Case("f", [np.ones((2, 2))], id="big")) == "f-big"
