import numpy as np
import pytest

from noria.core.errors import ArgumentError


def test_the_second_value_is_put_at_the_axis(run_op):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    y = np.array([1, 10, 100], np.float32)
    got = run_op("elementwise_mul", {"X": x, "Y": y}, {"axis": 1})["Out"]
    assert np.array_equal(got, x * y[:, None])


def test_integers_are_divided_towards_zero(run_op):
    x, y = np.array([-7, 7, -7], np.int64), np.array([2, 2, -2], np.int64)
    assert run_op("elementwise_div", {"X": x, "Y": y})["Out"].tolist() == [-3, 3, 3]


def test_a_value_that_does_not_fit_behind_the_axis_is_refused(run_op):
    x, y = np.ones((2, 3), np.float32), np.ones((3,), np.float32)
    with pytest.raises(ArgumentError, match="axis"):
        run_op("elementwise_add", {"X": x, "Y": y}, {"axis": 7})
