import ml_dtypes
import numpy as np
import pytest

from noria.testing.compare import assert_all_same, assert_same, largest


def test_equal_arrays_pass_whatever_their_dtype():
    for dtype in (bool, np.int8, np.float16, ml_dtypes.bfloat16, np.float64):
        assert_same(np.ones((2, 3), dtype), np.ones((2, 3), dtype), "x")


def test_another_shape_or_dtype_is_told():
    with pytest.raises(AssertionError, match=r"x: shape \(2,\), expected \(2, 1\)"):
        assert_same(np.ones(2), np.ones((2, 1)), "x")
    with pytest.raises(AssertionError, match="x: dtype float64, expected float32"):
        assert_same(np.ones(2), np.ones(2, np.float32), "x")
    assert_same(np.ones(2), np.ones(2, np.float32), "x", dtype=False)


def test_the_first_wrong_number_and_how_many_are_told():
    with pytest.raises(AssertionError, match=r"2 of 4 .*\n.*first at \[0, 1\]: got 5.0, exp.* 1.0"):
        assert_same(np.array([[1.0, 5], [5, 1]]), np.ones((2, 2)), "x")


def test_the_tolerance_is_relative_to_the_largest_number():
    want = np.array([1000.0, 0.0], np.float32)
    assert_same(want + np.float32(0.01), want, "x")
    with pytest.raises(AssertionError):
        assert_same(want + np.float32(0.1), want, "x")
    with pytest.raises(AssertionError):
        assert_same(np.array([0.0001], np.float32), np.zeros(1, np.float32), "x")


def test_the_tolerance_is_that_of_the_coarser_dtype_or_the_one_given():
    assert_same(np.float64(1.01), ml_dtypes.bfloat16(1.0), "x", dtype=False)
    with pytest.raises(AssertionError):
        assert_same(np.float64(1.01), np.float32(1.0), "x", dtype=False)
    assert_same(np.float64(1.01), np.float64(1.0), "x", tol=0.02)


def test_nan_equals_nan_and_infinities_keep_their_sign():
    odd = np.array([np.nan, np.inf, -np.inf])
    assert_same(odd, odd.copy(), "x")
    with pytest.raises(AssertionError, match="3 of 3"):
        assert_same(odd, np.array([0.0, -np.inf, np.inf]), "x")
    with pytest.raises(AssertionError, match="3 of 3"):
        assert_same(np.zeros(3), odd, "x")


def test_an_infinity_does_not_widen_the_tolerance():
    with pytest.raises(AssertionError, match="1 of 2"):
        assert_same(np.array([np.inf, 1.1]), np.array([np.inf, 1.0]), "x")


def test_integers_and_booleans_are_exact():
    with pytest.raises(AssertionError, match="1 of 1"):
        assert_same(np.array([2**60 + 1]), np.array([2**60]), "x")
    with pytest.raises(AssertionError):
        assert_same(np.array([True]), np.array([False]), "x")


def test_lists_are_compared_one_by_one():
    assert_all_same([1.0, 2], [1.0, 2], "x")
    with pytest.raises(AssertionError, match="x, output 1"):
        assert_all_same([1.0, 2], [1.0, 3], "x")
    with pytest.raises(AssertionError, match="1 outputs, expected 2"):
        assert_all_same([1.0], [1.0, 3], "x")


def test_the_largest_finite_number():
    assert largest(np.array([1.0, -3.0, np.inf, np.nan])) == 3.0
    assert largest(np.array([])) == 0.0
